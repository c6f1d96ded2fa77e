//! Series that can be counted on a request path: label values that are known beforehand, and no lock.
//!
//! Of prometheus-client the encoding is used; its `Family` is a lock around a map, and its `Histogram` a mutex.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The registry of a process: every series is `pullcred_…`, and one tells which build this is.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("pullcred");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The build of this process", build);
    registry
}

/// The values of a label, all of them known beforehand.
pub trait LabelValue: Copy + Send + Sync + fmt::Debug + 'static {
    /// The label's name.
    const LABEL: &'static str;
    /// Every value, each at its `index`.
    const ALL: &'static [Self];
    /// Where the value stands in `ALL`.
    fn index(self) -> usize;
    /// The value as the series shows it.
    fn as_str(self) -> &'static str;
}

/// Declares a label with its values and their texts.
macro_rules! label {
    ($(#[doc = $doc:literal])+ $name:ident, $label:literal: $($(#[doc = $value_doc:literal])+ $value:ident = $text:literal,)+) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[doc = $value_doc])+ $value,)+ }

        impl $crate::process::metrics::LabelValue for $name {
            const LABEL: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }
    };
}
pub(crate) use label;

/// One counter for each value of a label.
#[derive(Debug, Clone)]
pub struct Counters<V>(Arc<[Counter]>, PhantomData<V>);

impl<V: LabelValue> Default for Counters<V> {
    fn default() -> Self {
        Self(V::ALL.iter().map(|_| Counter::default()).collect(), PhantomData)
    }
}

impl<V: LabelValue> Counters<V> {
    /// The counter of a value.
    pub fn of(&self, value: V) -> &Counter {
        &self.0[value.index()]
    }
}

impl<V: LabelValue> EncodeMetric for Counters<V> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for value in V::ALL {
            self.of(*value).encode(encoder.encode_family(&[(V::LABEL, value.as_str())])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// How long things took. Clones count together.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bounds in seconds, ascending; the last bucket has none.
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// A histogram with these upper bounds in seconds, in ascending order.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, nanoseconds: AtomicU64::new(0) }))
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let Buckets { bounds, counts, nanoseconds } = &*self.0;
        let seconds = took.as_secs_f64();
        counts[bounds.partition_point(|bound| *bound < seconds)].fetch_add(1, Ordering::Relaxed);
        nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Buckets { bounds, counts, nanoseconds } = &*self.0;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let sum = Duration::from_nanos(nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        // The count is that of the buckets just read, so that a scrape is of one piece.
        encoder.encode_histogram::<NoLabelSet>(sum, buckets.iter().map(|(_, count)| count).sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_duration_in_its_bucket_bound_included() {
        let histogram = Histogram::new(&[0.001, 0.01]);
        for micros in [1, 1000, 1001, 10_000, 20_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut registry = Registry::default();
        registry.register("took", "Help", histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "took_sum 0.032002",
            "took_count 5",
            "took_bucket{le=\"0.001\"} 2",
            "took_bucket{le=\"0.01\"} 4",
            "took_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
