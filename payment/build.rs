//! Generates client and server from the contract. protox reads it, so no `protoc` needs to be installed.

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["payment/v1/payment.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
