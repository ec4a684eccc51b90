//! Many small questions in one: asked together, and one by one where together is refused.

use std::ops::Range;

use super::{Answer, Probe, Promise, cell, position};

/// A `select` that gives one row, which begins with its position.
pub(super) struct Unit<'a> {
    pub(super) database: Option<&'a str>,
    /// What follows `select POSITION, `.
    pub(super) sql: String,
    /// How much work it is; a batch takes up to [`WEIGHT`].
    pub(super) weight: u64,
}

pub(super) struct Batches<'a> {
    units: Vec<Unit<'a>>,
    batches: Vec<Range<usize>>,
}

/// Bytes of data, about a second's.
const WEIGHT: u64 = 64 << 20;
const UNITS: usize = 200;

impl<'a> Batches<'a> {
    /// Units of one database should stand together.
    pub(super) fn new(units: Vec<Unit<'a>>) -> Batches<'a> {
        let mut batches: Vec<Range<usize>> = Vec::new();
        let mut weight = 0;
        for (at, unit) in units.iter().enumerate() {
            weight += unit.weight;
            match batches.last_mut() {
                Some(last) if units[last.start].database == unit.database && weight <= WEIGHT && last.len() < UNITS => {
                    last.end = at + 1;
                }
                _ => {
                    batches.push(at..at + 1);
                    weight = unit.weight;
                }
            }
        }
        Batches { units, batches }
    }

    pub(super) fn probes(&self, promise: &Promise<'_>, known: &[Answer]) -> Vec<Probe> {
        let probe = |range: Range<usize>| {
            let database = self.units[range.start].database;
            let keep = range.len();
            let parts: Vec<String> = range.map(|at| format!("select {at}, {}", self.units[at].sql)).collect();
            let sql = format!("{}{}", super::catalog::PINNED, parts.join(" union all "));
            promise.probe(database, sql, super::COUNT_TIMEOUT, keep)
        };
        if known.is_empty() {
            return self.batches.iter().cloned().map(probe).collect();
        }
        if known.len() != self.batches.len() {
            return Vec::new();
        }
        self.singles(known).map(|at| probe(at..at + 1)).collect()
    }

    /// Units whose batch was refused.
    fn singles<'b>(&'b self, known: &'b [Answer]) -> impl Iterator<Item = usize> + 'b {
        let refused = self.batches.iter().zip(known).filter(|(range, answer)| range.len() > 1 && is_refused(answer));
        refused.flat_map(|(range, _)| range.clone())
    }

    /// By unit: the columns that follow the position, or the answer that is none.
    pub(super) fn results<'b>(&self, answers: &'b [Answer]) -> Vec<Result<&'b [Option<String>], Option<&'b Answer>>> {
        let (together, alone) = answers.split_at(self.batches.len().min(answers.len()));
        let mut results = vec![Err(None); self.units.len()];
        let mut fill = |range: Range<usize>, answer: &'b Answer| match answer {
            Answer::Rows(table) => {
                for row in &table.rows {
                    if let Some(at) = position(row, 0).filter(|it| range.contains(it) && cell(row, 1).is_some()) {
                        results[at] = Ok(&row[1..]);
                    }
                }
            }
            Answer::Refused { .. } | Answer::Silent { .. } => range.for_each(|at| results[at] = Err(Some(answer))),
        };
        for (range, answer) in self.batches.iter().zip(together) {
            fill(range.clone(), answer);
        }
        for (at, answer) in self.singles(together).zip(alone) {
            fill(at..at + 1, answer);
        }
        results
    }
}

fn is_refused(answer: &Answer) -> bool {
    match answer {
        Answer::Refused { .. } => true,
        Answer::Rows(_) | Answer::Silent { .. } => false,
    }
}
