# An image for CI: pgdrill with the programs of PostgreSQL, so that drills run where there is no container engine to be had.
#
#   docker build --tag pgdrill .
#   docker run --rm --volume "$PWD:/work" --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
#     pgdrill run /work/scenarios --out /work/drill
#
# It runs as an ordinary user. Isolating a restored server takes namespaces, which engines deny to containers unless they are
# started as above; without, only a backup whose scenario says `trust: backup` is restored (`pgdrill doctor` tells).
# With a socket of an engine mounted, or DOCKER_HOST, drills run in containers beside this one instead: then scratch
# directories have to be at the same path on both sides (--volume /tmp/pgdrill:/tmp/pgdrill --env TMPDIR=/tmp/pgdrill).
ARG BASE=debian:bookworm-slim

# The binary comes from ci/release, so that the image and the archive of a release hold the same one.
FROM ${BASE} AS unpack
ARG ARCHIVE=target/dist/pgdrill-*.tar.gz
COPY ${ARCHIVE} /tmp/
RUN mkdir /unpacked && tar --strip-components=1 -C /unpacked -xzf /tmp/pgdrill-*.tar.gz

FROM ${BASE}
# One major from the distribution; build with PostgreSQL's own repository added for others.
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 drill
COPY --from=unpack /unpacked/pgdrill /usr/local/bin/pgdrill
COPY --from=unpack /unpacked/scenarios /usr/share/pgdrill/scenarios
USER drill
WORKDIR /home/drill
ENTRYPOINT ["/usr/local/bin/pgdrill"]
CMD ["--help"]
