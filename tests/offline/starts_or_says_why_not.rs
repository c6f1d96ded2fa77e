//! `pullcred webhook` on the command line: with input that it cannot use it ends with code 2 and says what to do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pullcred::pki::make_development;

use super::injects::{pod, review, rule};
use crate::support::client::Client;
use crate::support::program::Webhook;
use crate::support::wait_for;

fn pullcred(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullcred"));
    command.args(arguments).env_clear().env("KUBECONFIG", "/nonexistent").output().unwrap()
}

/// Starts the webhook with arguments that it refuses, and gives its words.
fn refused(arguments: &[&str]) -> String {
    let all = [&["webhook", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], arguments].concat();
    let output = pullcred(&all);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
    assert!(output.stdout.is_empty());
    words
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_and_version_go_to_standard_output_and_are_fine() {
    for arguments in [&["--help"][..], &["--version"], &["webhook", "--help"]] {
        let output = pullcred(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn every_flag_is_also_an_environment_variable() {
    let help = String::from_utf8(pullcred(&["webhook", "--help"]).stdout).unwrap();
    for line in help.lines().filter_map(|line| line.trim().strip_prefix("--")) {
        let flag = line.split([' ', '=']).next().unwrap();
        let variable = format!("[env: PULLCRED_{}=", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&variable), "{flag}: {variable} is not in\n{help}");
    }
}

#[test]
fn usage_errors_end_with_2() {
    for (arguments, words) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--shutdown-delay", "soon"], "is not a duration"),
        (&["--listen", "here"], "--listen"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["--log-level", "pullcred=loud=er"], "--log-level: `pullcred=loud=er` is neither a level (error, warn, info"),
        (
            &["--log-level", "warning"],
            "--log-level: `warning` is neither a level (error, warn, info, debug, trace, off)",
        ),
        (&["--tls-secret", "pullcred-tls"], "no cluster is known: set KUBECONFIG"),
        (&["--tls-secret", "pullcred-tls", "--dev-certs", "x"], "cannot be used with"),
        (&["--rules", "examples/rules"], "--tls-secret NAME, --tls-cert FILE and --tls-key FILE, or --dev-certs DIR"),
    ] {
        let said = refused(arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn an_extra_name_that_no_certificate_can_be_for_is_a_usage_error() {
    let output = pullcred(&["controller", "--extra-name", "[fd00::1]:443"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("--extra-name") && words.contains("neither an IP address nor a DNS name"), "{words}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn rules_that_cannot_be_used_are_told_all_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let empty = path("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("notes.txt"), "not a rule").unwrap();
    fs::write(empty.join(".hidden.yaml"), rule("hidden", &["r.io"])).unwrap();
    let binary = path("binary.yaml");
    fs::write(&binary, [0x7f, b'E', b'L', b'F', 0, 0xff]).unwrap();
    let half = path("half.yaml");
    fs::write(&half, &rule("half", &["r.io"])[..60]).unwrap();
    let pipes = path("pipes");
    fs::create_dir(&pipes).unwrap();
    assert!(Command::new("mkfifo").arg(pipes.join("pipe.yaml")).status().unwrap().success());
    let large = path("large.yaml");
    fs::File::create(&large).unwrap().set_len(17 << 20).unwrap();
    let bad = path("bad.yaml");
    fs::write(&bad, rule("bad", &["https://r.io", "r.io/app:1"])).unwrap();

    let missing = path("missing");
    let paths = [&missing, &empty, &binary, &half, &pipes, &large, &bad];
    let arguments: Vec<&str> = paths.iter().flat_map(|path| ["--rules", text(path)]).collect();
    let said = refused(&[&arguments[..], &["--dev-certs", text(&path("certs"))]].concat());
    for words in [
        format!("{}: PC001: is not there: name a file or a directory", missing.display()),
        format!("{}: PC001: the directory holds no rule files", empty.display()),
        format!("{}:1:6: PC002: ", binary.display()),
        format!("{}:", half.display()),
        format!("{}: PC001: is not a file but a named pipe", pipes.join("pipe.yaml").display()),
        format!("{}: PC001: is too large: at most 16 MiB", large.display()),
        format!("{}:5:17: PC008 spec.images[0]: ", bad.display()),
        format!("{}:5:32: PC008 spec.images[1]: ", bad.display()),
    ] {
        assert!(said.contains(&words), "{words} is not in\n{said}");
    }
    assert!(!path("certs").exists(), "nothing is made for a webhook that does not start");
}

#[test]
fn rules_that_may_not_be_read_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (file, folder) = (directory.path().join("secret.yaml"), directory.path().join("secret"));
    fs::write(&file, rule("a", &["r.io"])).unwrap();
    fs::create_dir(&folder).unwrap();
    for path in [&file, &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root reads everything, so as root the program runs as nobody, from where nobody can reach it.
    let program = directory.path().join("pullcred");
    // By another program: what this one holds open for writing, a child that another test starts may hold too, and then it cannot run.
    assert!(Command::new("cp").args([env!("CARGO_BIN_EXE_pullcred"), text(&program)]).status().unwrap().success());
    let mut command = Command::new(program);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    command.args(["webhook", "--rules", text(&file), "--rules", text(&folder), "--dev-certs", "certs"]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    for path in [&file, &folder] {
        let words = format!("{}: PC001: cannot be read: permission is denied", path.display());
        assert!(said.contains(&words), "{words} is not in\n{said}");
    }
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn ten_thousand_rules_are_no_trouble() {
    let rules: Vec<String> = (0..10_000).map(|i| rule(&format!("rule-{i}"), &[&format!("registry-{i}.io")])).collect();
    let webhook = Webhook::start(&rules.concat(), &[]).await;
    assert!(webhook.admin("/readyz").await.unwrap().1.contains("[+] rules: 10000 in force\n"));
    let mut client = Client::connect(webhook.port, &webhook.authority()).await.unwrap();
    let body = serde_json::to_vec(&review(&pod(&["registry-7777.io/app"]))).unwrap();
    let answer = client.review(body).await.unwrap().json();
    assert_eq!(answer["response"]["auditAnnotations"]["secrets"], "rule-7777");
    let series = webhook.admin("/metrics").await.unwrap().1.matches("pullcred_rule_matches_total{").count();
    assert_eq!(series, 101, "a hundred rules and all others");
}

#[test]
fn a_certificate_that_cannot_be_served_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        text(&path).to_owned()
    };
    let (one, two) = (make_development(Timestamp::now()).unwrap(), make_development(Timestamp::now()).unwrap());
    let rules = write("rules.yaml", &rule("a", &["r.io"]));
    let (certificate, key) = (write("tls.crt", &one.tls_crt), write("tls.key", &one.tls_key));
    let (other_key, nonsense) = (write("other.key", &two.tls_key), write("nonsense", "hello"));
    let missing = text(&directory.path().join("missing")).to_owned();
    for (certificate, key, words) in [
        (
            &certificate,
            &other_key,
            format!("the key in {other_key} does not belong to the certificate in {certificate}"),
        ),
        (&nonsense, &key, format!("{nonsense} holds no certificate: PEM")),
        (&certificate, &nonsense, format!("{nonsense} holds no private key that can be used")),
        (&key, &certificate, format!("{key} holds no certificate: PEM")),
        (&missing, &key, format!("{missing} cannot be read")),
    ] {
        let said = refused(&["--rules", &rules, "--tls-cert", certificate, "--tls-key", key]);
        assert!(said.contains(&words), "{words} is not in\n{said}");
        assert!(!said.contains("PRIVATE KEY"));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_now_is_served_and_not_ready_until_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| text(&directory.path().join(name)).to_owned();
    let year = SignedDuration::from_hours(366 * 24);
    for (from, words) in [(Timestamp::now() - year, "expired on "), (Timestamp::now() + year, "not valid before ")] {
        let made = make_development(from).unwrap();
        fs::write(file("tls.crt"), &made.tls_crt).unwrap();
        fs::write(file("tls.key"), &made.tls_key).unwrap();
        let arguments = ["--tls-cert", &file("tls.crt"), "--tls-key", &file("tls.key")];
        let webhook = Webhook::spawn(&rule("a", &["r.io"]), &arguments);
        wait_for("/readyz to say no", Duration::from_secs(20), async || {
            let (status, body) = webhook.admin("/readyz").await?;
            (status == 503 && body.contains(&format!("[-] certificate: {words}"))).then_some(())
        })
        .await;
        assert!(webhook.log().contains("no API server will trust it"), "{}", webhook.log());

        let good = make_development(Timestamp::now()).unwrap();
        fs::write(file("tls.crt"), &good.tls_crt).unwrap();
        fs::write(file("tls.key"), &good.tls_key).unwrap();
        wait_for("/readyz to say yes", Duration::from_secs(20), async || {
            (webhook.admin("/readyz").await?.0 == 200).then_some(())
        })
        .await;
        Client::connect(webhook.port, good.ca_crt.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_flag_to_change() {
    let webhook = Webhook::start(&rule("a", &["r.io"]), &[]).await;
    let (rules, certificates) = (webhook.rules(), webhook.certificates());
    let common = ["--rules", text(&rules), "--dev-certs", text(&certificates)];
    for (flag, port) in [("--listen", webhook.port), ("--admin-listen", webhook.admin_port)] {
        let address = format!("127.0.0.1:{port}");
        let other = if flag == "--listen" { "--admin-listen" } else { "--listen" };
        let addresses = [flag, &address, other, "127.0.0.1:0"];
        let output = pullcred(&[&["webhook"], &common[..], &addresses].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        let words = format!("cannot listen on {address} (choose another with {flag})");
        assert!(said.contains(&words) && said.contains("in use"), "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[tokio::test]
async fn development_certificates_are_made_once_and_anew_when_expired_and_never_over_another_s() {
    let webhook = Webhook::start(&rule("a", &["r.io"]), &[]).await;
    let directory = webhook.certificates();
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    assert_eq!(fs::metadata(directory.join("tls.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "tls.crt", "tls.key"], "nothing else is left behind");

    let first = read("tls.crt");
    let start_again = || {
        let rules = webhook.rules();
        let busy = format!("127.0.0.1:{}", webhook.port);
        let common = ["webhook", "--rules", text(&rules), "--dev-certs", text(&directory), "--listen", &busy];
        String::from_utf8(pullcred(&common).stderr).unwrap()
    };
    start_again();
    assert_eq!(read("tls.crt"), first, "a valid certificate stays");

    let old = make_development(Timestamp::now() - SignedDuration::from_hours(366 * 24)).unwrap();
    fs::write(directory.join("tls.crt"), &old.tls_crt).unwrap();
    fs::write(directory.join("tls.key"), &old.tls_key).unwrap();
    fs::write(directory.join("ca.crt"), &old.ca_crt).unwrap();
    start_again();
    assert_ne!(read("tls.crt"), old.tls_crt.as_bytes(), "an expired one is replaced");

    for name in ["ca.crt", "tls.crt", "tls.key"] {
        fs::write(directory.join(name), "somebody else's").unwrap();
    }
    let said = start_again();
    assert!(said.contains("is not what pullcred made"), "{said}");
    assert_eq!(read("tls.key"), b"somebody else's");
}
