//! The one end-to-end test binary. Each module is a theme; each test starts a server of its own.

mod e2e {
    mod apart;
    mod api_v1;
    mod authentication;
    mod bad_input;
    mod deploy;
    mod doctor;
    mod drain;
    mod durable;
    mod goim_faults;
    mod goim_routes;
    mod many;
    mod operator;
    mod overflow;
    mod powercut;
    mod push_api;
    mod pushes;
    mod regression;
    mod sessions;
    mod tidy;
    mod why;
    mod wild;
}
