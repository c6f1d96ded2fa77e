//! The directory of `--dev-certs`: a certificate for a person's own machine, made when it is missing or has expired.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::pki::{Facts, Validity, make_development, was_made_here};
use crate::webhook::{PairPaths, ServingPair};

/// Makes `ca.crt`, `tls.crt` and `tls.key` in a directory unless they are there and valid, and gives the paths of the pair.
/// What pullcred did not make is never overwritten.
///
/// # Errors
/// The directory cannot be written, or holds a certificate of somebody else's that cannot be served now.
pub(super) fn ensure(directory: &Path) -> anyhow::Result<PairPaths> {
    let paths = PairPaths { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
    let authority = directory.join("ca.crt");
    if authority.exists() && is_valid(&paths) {
        return Ok(paths);
    }
    for file in [&authority, &paths.certificate, &paths.key] {
        if file.exists() && !(is_ours(&paths.certificate) || is_ours(&authority)) {
            bail!(
                "{} is not what pullcred made, and {} holds no valid development certificate: name another directory, or \
                 name the files with --tls-cert and --tls-key",
                file.display(),
                directory.display()
            );
        }
    }
    make(directory, &paths)
        .with_context(|| format!("cannot make development certificates in {}", directory.display()))?;
    tracing::info!(directory = %directory.display(), "made a development certificate for localhost, 127.0.0.1 and ::1");
    Ok(paths)
}

fn is_valid(paths: &PairPaths) -> bool {
    ServingPair::new(&paths.read()).is_ok_and(|pair| matches!(pair.validity(), Validity::Until(_)))
}

fn is_ours(certificate: &Path) -> bool {
    CertificateDer::from_pem_file(certificate)
        .is_ok_and(|der| Facts::read(&der).is_ok_and(|facts| was_made_here(&facts)))
}

fn make(directory: &Path, paths: &PairPaths) -> anyhow::Result<()> {
    let made = make_development(Timestamp::now())?;
    fs::create_dir_all(directory)?;
    write(&paths.key, &made.tls_key, 0o600)?;
    write(&paths.certificate, &made.tls_crt, 0o644)?;
    write(&directory.join("ca.crt"), &made.ca_crt, 0o644)?;
    Ok(())
}

/// Writes a file so that nobody ever sees half of it.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = (|| {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}
