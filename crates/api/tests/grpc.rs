//! Roles over gRPC, on real sockets.

mod grpc {
    mod fixture;
    mod goim_comet;
    mod goim_logic;
    mod server;
    mod stubs;
}
