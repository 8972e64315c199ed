//! How a role declares what it counts: a table of names and meanings, from which it serves its numbers and
//! docs/metrics.md is made.

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without what stands before all names of the role and without a counter's `_total`.
    pub name: &'static str,
    /// What it counts, its unit and its labels.
    pub help: &'static str,
}

/// Declares the metrics of a role: a constant for each, and `METRICS`, which has them all.
#[macro_export]
macro_rules! metrics {
    ($($konst:ident = $name:literal, $help:literal;)*) => {
        $(const $konst: $crate::metrics::Metric = $crate::metrics::Metric { name: $name, help: $help };)*

        /// Every metric that is served.
        pub const METRICS: &[$crate::metrics::Metric] = &[$($konst),*];
    };
}
