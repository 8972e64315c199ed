//! Messages and services from the files in `proto`. A test in e2e makes them anew and compares.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code keeps to the rules of its generator"
)]

pub(crate) mod goim {
    #[rustfmt::skip]
    pub(crate) mod comet;
    #[rustfmt::skip]
    pub(crate) mod logic;
    #[rustfmt::skip]
    pub(crate) mod protocol;
}

pub(crate) mod anser {
    #[rustfmt::skip]
    pub(crate) mod v1;

    pub(crate) mod comet {
        #[rustfmt::skip]
        pub(crate) mod v1;
    }

    pub(crate) mod job {
        #[rustfmt::skip]
        pub(crate) mod v1;
    }

    pub(crate) mod logic {
        #[rustfmt::skip]
        pub(crate) mod v1;
    }
}
