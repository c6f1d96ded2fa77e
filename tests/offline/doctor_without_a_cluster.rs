//! `pullcred doctor` where there is no cluster to look at: a clear error, and exit code 2.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::free_port;

struct Told {
    code: i32,
    out: String,
    err: String,
}

fn doctor(kubeconfig: &Path, arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_pullcred"))
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn kubeconfig(server: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}', insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: c, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn an_api_that_cannot_be_reached_is_said_so() {
    let file = kubeconfig(&format!("https://127.0.0.1:{}", free_port()));
    for arguments in [&[][..], &["--format", "json"], &["--only", "injection"]] {
        let Told { code, out, err } = doctor(file.path(), arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains("the Kubernetes API cannot be reached") && err.contains("refused"), "{err}");
        assert!(err.contains("KUBECONFIG"), "{err}");
    }
}

#[test]
fn an_api_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = kubeconfig(&format!("https://{}", listener.local_addr().unwrap()));
    let start = Instant::now();
    let Told { code, err, .. } = doctor(file.path(), &[]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("no answer within 15 s"), "{err}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_cluster_that_nobody_names_is_said_so() {
    let Told { code, out, err } = doctor(Path::new("/nowhere/kubeconfig"), &[]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("set KUBECONFIG"), "{err}");
}

#[test]
fn arguments_that_are_wrong_are_refused() {
    let file = kubeconfig("https://127.0.0.1:1");
    for arguments in [&["--only", "everything"][..], &["--format", "yaml"], &["extra"], &["--namespace"]] {
        let Told { code, out, err } = doctor(file.path(), arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
    }
    let Told { err, .. } = doctor(file.path(), &["--only", "everything"]);
    for family in ["installation", "rights", "connection", "certificate", "rules", "accounts", "injection"] {
        assert!(err.contains(family), "{err}");
    }
}
