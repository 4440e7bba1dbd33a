//! Files that arrive whole.

use super::{Served, any_port, native, ours, run};
use crate::bed::Bed;
use crate::{bins, demo};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Linux's curl fetches `len` bytes from our HTTP server, and uploads them.
pub fn curl_fetches(bed: &Bed, v6: bool, len: u64) -> Result<()> {
    let curl = bins::system("curl").context("curl is not installed")?;
    let root = tempfile::tempdir()?;
    let file = root.path().join("file");
    demo::write_random(&file, len)?;
    let httpd = Served::start(ours(bed, "httpd")?.arg(any_port(bed.ours(v6))).arg(root.path()))?;
    let fetched = bed.dir().join("fetched");
    run(Command::new(&curl).args(["-sSf", "-o"]).arg(&fetched).arg(format!("http://{}/file", httpd.addr)))?;
    same(&file, &fetched)?;
    run(Command::new(&curl).args(["-sSf", "-T"]).arg(&file).arg(format!("http://{}/stored", httpd.addr)))?;
    same(&file, &root.path().join("stored"))
}

/// Our client fetches `len` bytes from Debian's nginx and uploads them by WebDAV's PUT.
pub fn nginx_serves(bed: &Bed, v6: bool, len: u64) -> Result<()> {
    let root = tempfile::tempdir()?;
    let file = root.path().join("file");
    demo::write_random(&file, len)?;
    let nginx = Nginx::start(bed.kernel(v6), root.path())?;
    let wanted = demo::sha256(&file)?;
    let down = demo::httpget(&bed.daemon, &nginx.addr, &["/file"])?;
    ensure!(down.sha256 == wanted, "fetched {}, want {wanted}", down.sha256);
    let source = file.to_str().context("path is not UTF-8")?;
    demo::httpget(&bed.daemon, &nginx.addr, &["/stored", "--upload", source])?;
    same(&file, &root.path().join("stored"))
}

/// `filecopy` both ways between our stack and the kernel's.
pub fn filecopy_both_ways(bed: &Bed, v6: bool, len: u64, cc: &str) -> Result<()> {
    let file = bed.dir().join("source");
    demo::write_random(&file, len)?;
    let receiver = Served::start(native("filecopy")?.arg("receive").arg(any_port(bed.kernel(v6))))?;
    run(ours(bed, "filecopy")?.arg("send").arg(receiver.addr.to_string()).arg(&file).args(["--cc", cc]))
        .with_context(|| bed.daemon.log())?;
    receiver.finish()?;
    let receiver = Served::start(ours(bed, "filecopy")?.arg("receive").arg(any_port(bed.ours(v6))))?;
    run(native("filecopy")?.arg("send").arg(receiver.addr.to_string()).arg(&file)).with_context(|| bed.daemon.log())?;
    receiver.finish()
}

fn same(a: &Path, b: &Path) -> Result<()> {
    let (x, y) = (demo::sha256(a)?, demo::sha256(b)?);
    ensure!(x == y, "{} has SHA-256 {x}, {} has {y}", a.display(), b.display());
    Ok(())
}

struct Nginx {
    child: Child,
    addr: String,
}

impl Nginx {
    fn start(ip: IpAddr, root: &Path) -> Result<Self> {
        let nginx = bins::system("nginx").context("nginx is not installed")?;
        // nginx cannot report a port it picked: take one that was free a moment ago in this namespace of our own.
        let addr: SocketAddr = TcpListener::bind((ip, 0))?.local_addr()?;
        let config = root.join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
                 events {{ worker_connections 20000; }}\n\
                 http {{ access_log off; client_max_body_size 0; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
                 fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n\
                 server {{ listen {addr}; root {root}; location / {{ dav_methods PUT; }} }} }}\n",
                root = root.display()
            ),
        )?;
        let mut child = Command::new(nginx)
            .arg("-e")
            .arg(root.join("error.log"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        // Ready when it accepts; the kernel refuses until then, and a refusal costs a yield.
        while std::net::TcpStream::connect(addr).is_err() {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!(
                    "nginx ended with {status}: {}",
                    std::fs::read_to_string(root.join("error.log")).unwrap_or_default()
                );
            }
            std::thread::yield_now();
        }
        Ok(Self { child, addr: addr.to_string() })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
