#!/bin/bash
# Runs in a container of PostgreSQL of some major, in which /lab is a directory of the host's: a cluster with a WAL archive, its
# base backups in every form that this major knows, and marks with what was true when.
set -euo pipefail
cd /lab
PATH=$(ls -d /usr/lib/postgresql/*/bin):$PATH
export LC_ALL=C.UTF-8 PGHOST=/tmp PGUSER=lab_owner PGDATABASE=postgres
major=$(postgres --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }
backup() { local name=$1; shift; pg_basebackup -D "/lab/base/$name" --checkpoint=fast --no-sync "$@"; }

mkdir wal ts base chain-plain chain-tar
initdb -D data -U lab_owner -k -A trust --wal-segsize=1 --no-sync > init.log
cat >> data/postgresql.conf <<CONF
listen_addresses = ''
unix_socket_directories = '/tmp'
archive_mode = on
archive_command = 'cp %p /lab/wal/%f'
max_connections = 123
fsync = off
CONF
if ((major >= 17)); then echo "summarize_wal = on" >> data/postgresql.conf; fi
pg_ctl -D data -l log -w start > /dev/null

# What the server has not read yet, and a backup of it carries: nothing of it may matter to a throwaway server.
cp data/postgresql.conf own.conf
cat >> data/postgresql.conf <<CONF
include_dir = 'conf.d'
include = '/etc/postgresql/nowhere.conf'
data_directory = '/nowhere'
hba_file = '/etc/postgresql/pg_hba.conf'
external_pid_file = '/var/run/postgresql/x.pid'
unix_socket_directories = '/nowhere'
listen_addresses = '*'
shared_preload_libraries = 'pg_cron, timescaledb, auto_explain'
session_preload_libraries = 'nowhere'
huge_pages = on
shared_buffers = '900GB'
ssl = on
ssl_cert_file = '/etc/ssl/certs/ssl-cert-snakeoil.pem'
ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'
logging_collector = on
log_directory = '/var/log/nowhere'
log_destination = 'syslog'
lc_messages = 'xx_YY.UTF-8'
lc_monetary = 'xx_YY.UTF-8'
restore_command = 'touch /lab/restored'
archive_cleanup_command = 'touch /lab/cleaned'
recovery_end_command = 'touch /lab/ended'
primary_conninfo = 'host=/nowhere'
synchronous_standby_names = 'nobody'
default_transaction_read_only = on
CONF

sql "create tablespace ts location '/lab/ts'"
sql "create table t(id int primary key, v text)"
sql "create table u(id int) tablespace ts"
sql "create table c(id int)"
sql "create table d(id int) tablespace ts"
sql "insert into t select g, repeat('x', 50) from generate_series(1, 20000) g"
sql "insert into u select generate_series(1, 1000)"
sql "insert into c select generate_series(1, 1000)"

# Full and incremental backups, each with a hundred rows more than the one before.
if ((major >= 17)); then
  before=()
  for name in full incr1 incr2; do
    pg_basebackup -D "/lab/chain-plain/$name" --checkpoint=fast --no-sync -Fp -T "/lab/ts=/lab/chain-ts/$name" "${before[@]}"
    if [[ $name != incr2 ]]; then
      tar=()
      [[ $name == full ]] || tar=(--incremental=/lab/chain-tar/full/backup_manifest)
      pg_basebackup -D "/lab/chain-tar/$name" --checkpoint=fast --no-sync -Ft -z "${tar[@]}"
    fi
    before=(--incremental="/lab/chain-plain/$name/backup_manifest")
    sql "insert into c select generate_series(1, 100); insert into d select generate_series(1, 100)"
  done
fi

backup plain -Fp -Xs -R -T /lab/ts=/lab/plain-ts
backup plain-none -Fp -Xn --no-manifest -T /lab/ts=/lab/plain-none-ts
backup tar -Ft -Xs
backup tar-gz -Ft -Xs -z
backup tar-fetch -Ft -Xf --manifest-checksums=SHA256
backup tar-none -Ft -Xn --no-manifest
backup tar-sizes -Ft -Xs -z --manifest-checksums=NONE
if ((major >= 15)); then
  for kind in client server; do for method in gzip lz4 zstd; do backup "$kind-$method" -Ft -Xs "--compress=$kind-$method"; done; done
fi
# As Debian has it: the configuration lies elsewhere.
mkdir aside
mv data/postgresql.conf data/pg_hba.conf data/pg_ident.conf aside/
backup debian -Ft -Xs -z
mv aside/* data/
cp own.conf data/postgresql.conf

sql "insert into t select g, 'after' from generate_series(20001, 20100) g"
sql "select pg_create_restore_point('before the deletion')" > /dev/null
sql "select pg_current_wal_lsn()" > mark.lsn
sql "select clock_timestamp()" > mark.time
sql "delete from t where id <= 20000; select txid_current()" > mark.xid
sql "select pg_switch_wal()" > /dev/null
sql "insert into t values (100001, 'late'); insert into t values (100002, 'last')"
last=$(sql "select pg_walfile_name(pg_current_wal_lsn())")
sql "select pg_switch_wal()" > /dev/null
until [[ -e wal/$last ]]; do sleep 0.05; done
pg_ctl -D data -m fast -w stop > /dev/null
rm -rf data
chmod -R a+rX base chain-* plain* ts wal mark.*
