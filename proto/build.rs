//! Compiles `stackd/v1/*.proto` with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=stackd/v1");
    let mut files: Vec<PathBuf> = fs::read_dir("stackd/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "proto"))
        .collect();
    files.sort();
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("stackd_descriptor.bin"), descriptors.encode_to_vec())?;
    // `bytes` payloads of the data path stay reference-counted from the HTTP/2 frame to the socket.
    // `SocketService.Connect` would collide with the generated `Client::connect(address)`: clients are made from a Channel.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".stackd.v1.SendRequest.data")
        .bytes(".stackd.v1.SendRequest.control")
        .bytes(".stackd.v1.ReceiveResponse.control")
        .bytes(".stackd.v1.ReceiveResponse.data")
        .bytes(".stackd.v1.ClientFrame.data")
        .bytes(".stackd.v1.ServerFrame.data")
        .bytes(".stackd.v1.CaptureChunk.pcapng")
        .bytes(".stackd.v1.RecordChunk.file")
        .compile_fds(descriptors)?;
    Ok(())
}
