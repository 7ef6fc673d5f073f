//! Statistics of one process: `wasmcustom.*` in Envoy.

use std::collections::BTreeMap;

use crate::status::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
struct Metric {
    kind: Kind,
    name: String,
    value: u64,
    records: Vec<u64>,
}

/// All metrics by number. In Envoy each VM has its own numbers for the process's metrics; here they share them.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    metrics: Vec<Metric>,
    ids: BTreeMap<String, u32>,
}

impl Metrics {
    pub(crate) fn define(&mut self, kind: u32, name: &str) -> Result<u32, Status> {
        let kind = match kind {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let id = u32::try_from(self.metrics.len()).map_err(|_| Status::InternalFailure)?;
        self.metrics.push(Metric { kind, name: name.to_owned(), value: 0, records: Vec::new() });
        self.ids.insert(name.to_owned(), id);
        Ok(id)
    }

    fn find(&mut self, id: u32) -> Result<&mut Metric, Status> {
        self.metrics.get_mut(id as usize).ok_or(Status::NotFound)
    }

    /// Adds to a counter, by more than 0, or to a gauge.
    pub(crate) fn increment(&mut self, id: u32, by: i64) -> Result<(), Status> {
        let metric = self.find(id)?;
        match metric.kind {
            Kind::Counter if by <= 0 => Err(Status::BadArgument),
            Kind::Counter | Kind::Gauge => {
                metric.value = metric.value.wrapping_add_signed(by);
                Ok(())
            }
            Kind::Histogram => Err(Status::BadArgument),
        }
    }

    /// Sets a gauge, adds to a counter, or records into a histogram.
    pub(crate) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        let metric = self.find(id)?;
        match metric.kind {
            Kind::Counter => metric.value = metric.value.wrapping_add(value),
            Kind::Gauge => metric.value = value,
            Kind::Histogram => metric.records.push(value),
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, id: u32) -> Result<u64, Status> {
        let metric = self.find(id)?;
        match metric.kind {
            Kind::Counter | Kind::Gauge => Ok(metric.value),
            Kind::Histogram => Err(Status::BadArgument),
        }
    }

    /// The value of a metric by name; `None` when nobody defined it.
    pub(crate) fn by_name(&self, name: &str) -> Option<u64> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }
}
