//! Copies whose credential a plugin or a key gives, and what happens when it gives none.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::provided::{LIMIT, REGISTRY, World, config_of, message_of, password_of, reason_of};
use crate::support::outside::{self, Site};
use crate::support::wait_for;

/// A directory with a plugin that answers what stands in the file `answer` beside it, and notes each call in `calls`.
fn plugin(directory: &Path) -> Vec<String> {
    let script = directory.join("example-provider");
    let text = format!("#!/bin/sh\ncat >/dev/null\necho >>'{0}/calls'\ncat '{0}/answer'\n", directory.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: example-provider\n  \
                  matchImages: [registry.example:5000]\n  defaultCacheDuration: 1h\n  \
                  apiVersion: credentialprovider.kubelet.k8s.io/v1\n";
    fs::write(directory.join("config.yaml"), config).unwrap();
    let directory = directory.display().to_string();
    let config = format!("{directory}/config.yaml");
    ["--credential-provider-config", &config, "--credential-provider-bin-dir", &directory].map(str::to_owned).to_vec()
}

fn answers(directory: &Path, password: &str, holds: &str) {
    let answer = json!({
        "kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": "Registry", "cacheDuration": holds,
        "auth": {REGISTRY: {"username": "user", "password": password}},
    });
    fs::write(directory.join("answer"), answer.to_string()).unwrap();
}

fn calls(directory: &Path) -> usize {
    fs::read_to_string(directory.join("calls")).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn a_plugins_token_is_asked_for_once_for_all_namespaces_and_again_before_it_ends() {
    let world = World::new().await;
    let name = world.name("regcred");
    let directory = tempfile::tempdir().unwrap();
    let arguments = plugin(directory.path());
    answers(directory.path(), "one", "15s");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _controller = world.controller_with(&arguments).await.leading(LIMIT).await;
    world.put_rule(&name, json!({"source": {"credentialProvider": {"name": "example-provider"}}})).await;
    // Before anybody needs it.
    let status = world.status(&name, |status| status.expires_at.is_some()).await;
    assert!(status.refreshed_at.is_some());
    let mut namespaces = Vec::new();
    for i in 0..5 {
        let namespace = world.namespace(&format!("team-{i}"), json!({})).await;
        world.put_pod(&namespace, "app", &[&name]).await;
        world.copy(&namespace, &name, "one").await;
        namespaces.push(namespace);
    }
    assert_eq!(calls(directory.path()), 1);
    answers(directory.path(), "two", "1h");
    for namespace in &namespaces {
        world.copy(namespace, &name, "two").await;
    }
    assert_eq!(calls(directory.path()), 2);
}

#[tokio::test]
async fn a_plugin_that_gives_nothing_leaves_the_last_good_copies_and_says_so() {
    let world = World::new().await;
    let name = world.name("regcred");
    let directory = tempfile::tempdir().unwrap();
    let arguments = plugin(directory.path());
    answers(directory.path(), "one", "15s");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _controller = world.controller_with(&arguments).await.leading(LIMIT).await;
    world.put_rule(&name, json!({"source": {"credentialProvider": {"name": "example-provider"}}})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;
    fs::write(directory.path().join("answer"), "garbage").unwrap();
    let status = world.reason(&name, "ProviderFailed").await;
    assert!(!message_of(&status).contains("garbage"), "{}", message_of(&status));
    assert_eq!(status.namespaces, Some(1));
    world.copy(&namespace, &name, "one").await;
    answers(directory.path(), "two", "1h");
    world.copy(&namespace, &name, "two").await;
    world.reason(&name, "Provided").await;
}

/// Each of these plugins answers well once, and then no more.
#[tokio::test]
async fn plugins_that_hang_or_fail_or_never_stop_talking_are_ended_and_their_copies_stay() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let faults = [
        ("one", "sleep 600", "nor what it had started was done within 60s"),
        ("other", "head -c 100000000 /dev/zero | tr '\\0' x", "it printed more than 1048576 bytes"),
        ("many", "echo no luck >&2; exit 1", "failed with exit status: 1 and said: no luck"),
    ];
    let mut providers = String::new();
    for (name, fault, _) in faults {
        let script = format!(
            "#!/bin/sh\ncat >/dev/null\necho >>'{0}/calls'\nif [ -e '{0}/broken' ]; then {fault}; else cat '{0}/answer'; fi\n",
            here.display()
        );
        fs::write(here.join(name), script).unwrap();
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        let rest = "matchImages: [registry.example:5000], defaultCacheDuration: 1h, apiVersion: credentialprovider.kubelet.k8s.io/v1";
        writeln!(providers, "- {{name: {name}, {rest}}}").unwrap();
    }
    let config = here.join("config.yaml");
    let text = format!("apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n{providers}");
    fs::write(&config, text).unwrap();
    answers(here, "one", "12s");
    let (config, bin) = (config.display().to_string(), here.display().to_string());
    let arguments = ["--credential-provider-config", &config, "--credential-provider-bin-dir", &bin];
    let controller = world.controller_with(&arguments).await.leading(LIMIT).await;
    let namespace = world.namespace("team", json!({})).await;
    for (name, ..) in faults {
        let rule = world.name(name);
        world.put_rule(&rule, json!({"source": {"credentialProvider": {"name": name}}})).await;
        world.put_pod(&namespace, &rule, &[&rule]).await;
        world.copy(&namespace, &rule, "one").await;
    }
    fs::write(here.join("broken"), "").unwrap();
    // The one that hangs has a minute, from when it is asked again.
    let limit = Duration::from_secs(90);
    for (name, _, words) in faults {
        let rule = world.name(name);
        let message = wait_for(&format!("{rule} to be told"), limit, async || {
            let status = world.rules().get(&rule).await.unwrap().status?;
            (reason_of(&status) == "ProviderFailed").then(|| message_of(&status).to_owned())
        })
        .await;
        assert!(message.contains(words), "{message}");
        world.copy(&namespace, &rule, "one").await;
    }
    let memory = controller.memory();
    let most = memory.split("VmHWM: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(most.parse::<u64>().unwrap() < 100_000, "what a plugin prints is not kept: {memory}");
    // They fail more and more seldom, and are asked all the same.
    let asked = calls(here);
    assert!(asked < 40, "{asked} calls");
    answers(here, "two", "1h");
    fs::remove_file(here.join("broken")).unwrap();
    for (name, ..) in faults {
        let rule = world.name(name);
        wait_for(&format!("{rule} to be well"), limit, async || {
            let copy = world.secret(&namespace, &rule).await?;
            (password_of(&copy, REGISTRY).as_deref() == Some("two")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_plugin_that_hangs_does_not_hold_up_who_leads_next() {
    let world = World::new().await;
    let name = world.name("regcred");
    let directory = tempfile::tempdir().unwrap();
    let arguments = plugin(directory.path());
    let script = format!("#!/bin/sh\ncat >/dev/null\necho >>'{}/calls'\nsleep 600\n", directory.path().display());
    fs::write(directory.path().join("example-provider"), script).unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut first = world.controller_with(&arguments).await.leading(LIMIT).await;
    let second = world.controller_with(&arguments).await;
    world.put_rule(&name, json!({"source": {"credentialProvider": {"name": "example-provider"}}})).await;
    wait_for("the plugin to be asked", LIMIT, async || (calls(directory.path()) == 1).then_some(())).await;
    first.signal("TERM");
    let told = Instant::now();
    let _second = second.leading(LIMIT).await;
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    assert!(first.ended(LIMIT).await.success());
}

#[tokio::test]
async fn a_token_that_holds_for_one_use_is_asked_for_at_most_once_a_minute() {
    let world = World::new().await;
    let name = world.name("regcred");
    let directory = tempfile::tempdir().unwrap();
    let arguments = plugin(directory.path());
    answers(directory.path(), "one", "0s");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _controller = world.controller_with(&arguments).await.leading(LIMIT).await;
    world.put_rule(&name, json!({"source": {"credentialProvider": {"name": "example-provider"}}})).await;
    for i in 0..3 {
        let namespace = world.namespace(&format!("team-{i}"), json!({})).await;
        world.put_pod(&namespace, "app", &[&name]).await;
        world.copy(&namespace, &name, "one").await;
    }
    assert_eq!(calls(directory.path()), 1);
    // The next need after that minute is one to ask for, and to wait for.
    let script = fs::read_to_string(directory.path().join("example-provider")).unwrap();
    fs::write(directory.path().join("example-provider"), script.replace("cat >/dev/null", "cat >/dev/null\nsleep 1"))
        .unwrap();
    answers(directory.path(), "two", "0s");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(calls(directory.path()), 1, "nobody needs anything");
    let namespace = world.namespace("team-3", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    let copy = wait_for("the copy", LIMIT, async || world.secret(&namespace, &name).await).await;
    assert_eq!(password_of(&copy, REGISTRY).as_deref(), Some("two"), "the first that is seen");
    assert_eq!(calls(directory.path()), 2);
}

/// What it fetched when it led before may have ended, and copies hold what the other one has fetched since.
#[tokio::test]
async fn one_that_leads_again_puts_no_token_of_before_into_copies() {
    let world = World::new().await;
    let name = world.name("regcred");
    let directory = tempfile::tempdir().unwrap();
    let arguments = plugin(directory.path());
    answers(directory.path(), "one", "1h");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = world.controller_with(&arguments).await.leading(LIMIT).await;
    let second = world.controller_with(&arguments).await;
    world.put_rule(&name, json!({"source": {"credentialProvider": {"name": "example-provider"}}})).await;
    let namespace = world.namespace("team", json!({})).await;
    world.put_pod(&namespace, "app", &[&name]).await;
    world.copy(&namespace, &name, "one").await;

    answers(directory.path(), "two", "1h");
    first.signal("STOP");
    let mut second = second.leading(Duration::from_secs(15)).await;
    let copy = world.copy(&namespace, &name, "two").await;
    first.signal("CONT");
    wait_for("the first to follow", LIMIT, async || (!first.leads().await).then_some(())).await;

    fs::write(directory.path().join("answer"), "garbage").unwrap();
    second.signal("TERM");
    assert!(second.ended(LIMIT).await.success());
    let _first = first.leading(LIMIT).await;
    let other = world.namespace("other", json!({})).await;
    world.put_pod(&other, "app", &[&name]).await;
    world.reason(&name, "ProviderFailed").await;
    assert_eq!(world.secret(&namespace, &name).await.unwrap().metadata, copy.metadata);
    assert!(world.secret(&other, &name).await.is_none());
    answers(directory.path(), "three", "1h");
    for namespace in [&namespace, &other] {
        world.copy(namespace, &name, "three").await;
    }
}

#[tokio::test]
async fn a_google_key_that_is_not_there_or_no_key_is_said_to_be() {
    let world = World::new().await;
    let name = world.name("regcred");
    let _controller = world.controller().await;
    world.put_rule(&name, json!({"source": {"googleServiceAccountKey": {"secretRef": {"name": name}}}})).await;
    let status = world.reason(&name, "SourceMissing").await;
    assert!(message_of(&status).contains("--from-file=key.json"), "{}", message_of(&status));
    world.put_source(&name, REGISTRY, "one").await;
    let status = world.reason(&name, "SourceInvalid").await;
    assert!(message_of(&status).contains("key.json"), "{}", message_of(&status));
}

/// The key stays beside pullcred; namespaces get tokens that last an hour.
#[tokio::test]
async fn a_google_key_becomes_tokens_and_stays_where_it_is() {
    let world = World::new().await;
    let name = world.name("gcr");
    let site = Site::start(false, |_| {
        outside::json("200 OK", r#"{"access_token":"of-one-hour","expires_in":3599,"token_type":"Bearer"}"#)
    })
    .await;
    let private = std::process::Command::new("openssl").args(["genpkey", "-algorithm", "RSA"]).output();
    let private = String::from_utf8(private.expect("`openssl` makes the keys of the tests").stdout).unwrap();
    let mut key = json!({
        "type": "service_account", "private_key_id": "id", "private_key": private,
        "client_email": "puller@project.iam.gserviceaccount.com",
        "token_uri": format!("http://127.0.0.1:{}/token", site.port),
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"key.json": key.to_string()}});
    let (secrets, apply) = (world.secrets(&world.release), PatchParams::apply("kubectl").force());
    secrets.patch(&name, &apply, &Patch::Apply(secret)).await.unwrap();
    let _controller = world.controller().await;
    world.put_rule(&name, json!({"source": {"googleServiceAccountKey": {"secretRef": {"name": name}}}})).await;
    let status = world.status(&name, |status| status.expires_at.is_some()).await;
    let left = status.expires_at.unwrap().0.duration_since(status.refreshed_at.unwrap().0);
    assert_eq!(left.as_secs(), 3599);
    for i in 0..3 {
        let namespace = world.namespace(&format!("team-{i}"), json!({})).await;
        world.put_pod(&namespace, "app", &[&name]).await;
        let copy = world.copy(&namespace, &name, "of-one-hour").await;
        assert_eq!(config_of(&copy)["auths"][REGISTRY]["username"], "oauth2accesstoken");
        assert_eq!(copy.data.unwrap().len(), 1);
    }
    assert_eq!(site.requests().len(), 1);

    // What somebody writes beside the key is no reason to ask for another token; another key is.
    for turn in 0..3 {
        let note = json!({"metadata": {"annotations": {"example.com/synced": turn.to_string()}}});
        secrets.patch(&name, &PatchParams::default(), &Patch::Merge(note)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.requests().len(), 1);
    key["private_key_id"] = "other".into();
    let other = json!({"stringData": {"key.json": key.to_string()}});
    secrets.patch(&name, &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    wait_for("the other key to be asked with", LIMIT, async || (site.requests().len() == 2).then_some(())).await;
}
