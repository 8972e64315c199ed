//! The edge from outside: a running comet on free ports, with a fake logic and a fake owner.
//!
//! Every test ends with a drain and the same questions (see `fixture::Edge`): was each session that
//! was let in told over exactly once, and is nothing left that was counted?

mod edge {
    mod drain;
    mod fixture;
    mod flow;
    mod foreign;
    mod lanes;
    mod limits;
    mod login;
    mod notes;
    mod overflow;
    mod pushes;
    mod receive;
    mod refusal;
    mod renewal;
    mod rooms;
    mod sessions;
}
