//! The `pullcred` program: see the library for everything it does.

use std::process::ExitCode;

/// What an overload took goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The first thing that happens in the process, so no other provider can be there.
    let installed = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(installed.is_ok());
    pullcred::cli::run(std::env::args_os())
}
