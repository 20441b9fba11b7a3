//! The kinds of numbers there are, as [`super::Metrics`] lists them. Those under labels take only words of the program
//! (`&'static str`): a host name, an id or a query cannot become a series, whoever would like to make one.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Result,
};

/// A metric as it is listed.
pub(super) struct Listed {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
    /// Of a histogram: one list.
    pub(super) buckets: &'static [&'static [f64]],
}

impl Listed {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram(&self) -> HistogramOpts {
        HistogramOpts { common_opts: self.opts(), buckets: self.buckets.concat() }
    }
}

/// Something that can be listed.
pub(super) trait Number: Sized {
    fn make(listed: &Listed) -> Result<Self>;
    fn collector(&self) -> Box<dyn Collector>;
}

/// Those without labels are the library's own.
macro_rules! plain {
    ($($kind:ty: $listed:ident => $make:expr;)+) => {$(
        impl Number for $kind {
            fn make($listed: &Listed) -> Result<Self> {
                $make
            }

            fn collector(&self) -> Box<dyn Collector> {
                Box::new(self.clone())
            }
        }
    )+};
}

plain! {
    IntCounter: listed => Self::with_opts(listed.opts());
    Counter: listed => Self::with_opts(listed.opts());
    IntGauge: listed => Self::with_opts(listed.opts());
    Gauge: listed => Self::with_opts(listed.opts());
    Histogram: listed => Self::with_opts(listed.histogram());
}

/// Those with labels hold the library's, which would take any text.
macro_rules! labelled {
    ($($(#[doc = $doc:literal])+ $name:ident of $inner:ident: $one:ty, $opts:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone)]
        pub struct $name($inner);

        impl $name {
            /// The one under these words, in the order of the labels.
            ///
            /// # Panics
            /// If there are more or fewer words than labels: a mistake that the first call shows.
            #[must_use]
            pub fn with_label_values(&self, words: &[&'static str]) -> $one {
                self.0.with_label_values(words)
            }
        }

        impl Number for $name {
            fn make(listed: &Listed) -> Result<Self> {
                $inner::new(listed.$opts(), listed.labels).map(Self)
            }

            fn collector(&self) -> Box<dyn Collector> {
                Box::new(self.0.clone())
            }
        }
    )+};
}

labelled! {
    /// Counters under labels.
    Counters of IntCounterVec: IntCounter, opts;
    /// Gauges under labels.
    Gauges of IntGaugeVec: IntGauge, opts;
    /// Gauges under labels, of seconds.
    Spans of GaugeVec: Gauge, opts;
    /// Histograms under labels.
    Histograms of HistogramVec: Histogram, histogram;
}
