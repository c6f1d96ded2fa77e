//! Credential provider plugins: real programs in a directory, asked as a kubelet would ask them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use pullcred::controller::sources::plugin::{self, Plugins};
use pullcred::controller::sources::{Fetched, Lifetime};
use pullcred::image::ImagePattern;
use pullcred::rules::{SourceFile, read_credential_provider_config};
use tempfile::TempDir;

use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(60);
/// Stands for whatever a plugin prints that nobody must see.
const SECRET: &str = "hush-hush-token";

/// An operator's directory with one plugin, `test-provider`.
struct Operator {
    directory: TempDir,
    limit: Duration,
}

impl Operator {
    fn with(script: &str) -> Self {
        let operator = Self { directory: tempfile::tempdir().unwrap(), limit: LONG };
        operator.program("test-provider", &format!("#!/bin/sh\nHERE='{}'\n{script}\n", operator.here()));
        operator
    }

    /// One that answers with these members beside the usual ones.
    fn that_answers(members: &str) -> Self {
        Self::with(&format!("cat <<'END'\n{}\nEND", answer(members)))
    }

    fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    fn here(&self) -> String {
        self.directory.path().display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Written by another process: a file that is open for writing in this one, or in a child that another test has just
    /// begun, cannot be executed.
    fn program(&self, name: &str, text: &str) {
        fs::write(self.path("script"), text).unwrap();
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(self.path(name)).stdout(Stdio::null());
        let script = fs::File::open(self.path("script")).unwrap();
        assert!(install.stdin(script).status().unwrap().success());
    }

    fn plugins(&self, settings: &str) -> Plugins {
        let config = format!(
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: test-provider\n  \
             matchImages: [reg.example, '*.two.example', narrow.example/team]\n  defaultCacheDuration: 12h\n  \
             apiVersion: credentialprovider.kubelet.k8s.io/v1\n{settings}"
        );
        fs::write(self.path("config.yaml"), config).unwrap();
        Plugins::read(&self.path("config.yaml"), self.directory.path()).unwrap().with_time_limit(self.limit)
    }

    async fn fetch(&self, images: &[&str]) -> Result<Fetched, String> {
        fetch(&self.plugins(""), images).await
    }

    async fn error(&self) -> String {
        let error = self.fetch(&["reg.example"]).await.unwrap_err();
        assert!(error.starts_with("the credential provider `test-provider` "), "{error}");
        assert!(!error.contains("hush") && !error.contains('\n') && error.len() < 1000, "{error}");
        error
    }
}

async fn fetch(plugins: &Plugins, images: &[&str]) -> Result<Fetched, String> {
    let images: Vec<_> = images.iter().map(|image| ImagePattern::parse(image).unwrap()).collect();
    plugin::fetch(plugins, "test-provider", &images).await.map_err(|error| error.to_string())
}

fn answer(members: &str) -> String {
    format!(r#"{{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",{members}}}"#)
}

const GOOD: &str = r#""cacheKeyType":"Registry","auth":{"reg.example":{"username":"u","password":"hush-hush-token"}}"#;

fn entries(fetched: &Fetched) -> Vec<(&str, &str, &str)> {
    let entry = |(key, credential)| {
        let credential: &pullcred::image::Credential = credential;
        (key, credential.username(), credential.password())
    };
    fetched.auths.entries().map(entry).collect()
}

#[tokio::test]
async fn a_plugin_is_asked_on_standard_input_with_its_arguments_and_both_environments() {
    let operator = Operator::with(&format!(
        "cat > $HERE/request\nprintf '%s,' \"$@\" > $HERE/arguments\nenv > $HERE/environment\ncat <<'END'\n{}\nEND",
        answer(GOOD)
    ));
    let settings = "  args: [get-credentials, '--v=3']\n  env:\n  - {name: AWS_PROFILE, value: pulls}\n  - {name: HOME, value: /mine}\n";
    let fetched = fetch(&operator.plugins(settings), &["reg.example/team"]).await.unwrap();
    assert_eq!(entries(&fetched), [("reg.example", "u", SECRET)]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&operator.read("request")).unwrap(),
        serde_json::json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "kind": "CredentialProviderRequest",
            "image": "reg.example/team",
        })
    );
    assert_eq!(operator.read("arguments"), "get-credentials,--v=3,");
    let environment = operator.read("environment");
    let has = |line: &str| environment.lines().any(|found| found == line);
    assert!(has("AWS_PROFILE=pulls") && has("HOME=/mine"), "{environment}");
    assert!(has(&format!("PATH={}", std::env::var("PATH").unwrap())), "{environment}");
}

#[tokio::test]
async fn a_registry_without_a_path_is_asked_for_by_an_image_in_it() {
    let operator = Operator::with(&format!("cat > $HERE/request\ncat <<'END'\n{}\nEND", answer(GOOD)));
    operator.fetch(&["reg.example"]).await.unwrap();
    assert!(operator.read("request").contains(r#""image":"reg.example/pullcred""#));
}

#[tokio::test]
async fn a_plugin_is_asked_once_for_each_registry() {
    let script = |kind: &str| {
        let auth = r#""reg.example":{"username":"u","password":"p"},"*.two.example":{"username":"v","password":"q"}"#;
        let answer = answer(&format!(r#""cacheKeyType":"{kind}","cacheDuration":"1h30m","auth":{{{auth}}}"#));
        format!("cat >> $HERE/requests\necho >> $HERE/requests\ncat <<'END'\n{answer}\nEND")
    };
    let images = ["reg.example/a", "reg.example/b", "x.two.example", "reg.example"];
    for (kind, asked) in [("Registry", 2), ("Global", 1)] {
        let operator = Operator::with(&script(kind));
        let fetched = operator.fetch(&images).await.unwrap();
        assert_eq!(entries(&fetched), [("*.two.example", "v", "q"), ("reg.example", "u", "p")]);
        assert_eq!(fetched.lifetime, Lifetime::For(Duration::from_secs(5400)));
        assert_eq!(operator.read("requests").lines().count(), asked, "{kind}");
    }
}

#[tokio::test]
async fn only_entries_that_serve_the_images_are_taken() {
    let auth = r#""reg.example":{"username":"u","password":"p"},"other.example":{"username":"o","password":"p"}"#;
    let operator = Operator::that_answers(&format!(r#""cacheKeyType":"Global","auth":{{{auth}}}"#));
    assert_eq!(entries(&operator.fetch(&["reg.example"]).await.unwrap()), [("reg.example", "u", "p")]);
}

#[tokio::test]
async fn an_answer_says_how_long_it_holds() {
    for (member, lifetime) in [
        ("", Lifetime::For(Duration::from_secs(12 * 3600))),
        (r#""cacheDuration":null,"#, Lifetime::For(Duration::from_secs(12 * 3600))),
        (r#""cacheDuration":"10m0s","#, Lifetime::For(Duration::from_secs(600))),
        (r#""cacheDuration":"+10m","#, Lifetime::For(Duration::from_secs(600))),
        (r#""cacheDuration":"0s","#, Lifetime::Once),
        (r#""cacheDuration":"-5m","#, Lifetime::Once),
    ] {
        let fetched = Operator::that_answers(&format!("{member}{GOOD}")).fetch(&["reg.example"]).await.unwrap();
        assert_eq!(fetched.lifetime, lifetime, "{member}");
    }
    assert!(Lifetime::Once < Lifetime::For(Duration::ZERO) && Lifetime::For(Duration::MAX) < Lifetime::Unlimited);
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_told_apart_and_not_told() {
    let auth = r#""auth":{"reg.example":{"username":"u","password":"hush-hush-token"}}"#;
    for (members, words) in [
        (format!(r#""cacheKeyType":"Image",{auth}"#), "answered with `cacheKeyType: Image`"),
        (format!(r#""cacheKeyType":"hush",{auth}"#), "without a `cacheKeyType` of `Registry` or `Global`"),
        (auth.to_owned(), "without a `cacheKeyType`"),
        (format!(r#""cacheDuration":"hush",{GOOD}"#), "a `cacheDuration` that is no duration"),
        (format!(r#""hush":1,{GOOD}"#), "unknown, repeated or mistyped fields"),
        (r#""cacheKeyType":"Registry","auth":{"reg.example":"hush"}"#.to_owned(), "unknown, repeated or mistyped"),
        (r#""cacheKeyType":"Registry","auth":null"#.to_owned(), "without a credential for `reg.example`"),
        (r#""cacheKeyType":"Registry""#.to_owned(), "without a credential for `reg.example`"),
        (r#""cacheKeyType":"Registry","auth":{"reg.example":{}}"#.to_owned(), "none of which covers `reg.example`"),
        (format!(r#""cacheKeyType":"Registry",{}"#, auth.replace("reg.", "hush.")), "none of which covers"),
    ] {
        let error = Operator::that_answers(&members).error().await;
        assert!(error.contains(words), "{members}: {error}");
    }
    let print = |text: &str| Operator::with(&format!("cat <<'END'\n{text}\nEND"));
    for (text, words) in [
        (answer(GOOD).replace("/v1", "/v1beta1"), "another `apiVersion` than it was asked in"),
        (answer(GOOD).replace("apiVersion", "hush"), "another `apiVersion` than it was asked in"),
        (answer(GOOD).replace("Response", "Request"), "another `kind` than `CredentialProviderResponse`"),
        (format!("{} {SECRET}", answer(GOOD)), "is not JSON (line 1"),
        (SECRET.to_owned(), "is not JSON (line 1, column 1)"),
        (String::new(), "is not JSON"),
    ] {
        let error = print(&text).error().await;
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_plugin_that_fails_is_quoted_from_its_standard_error_alone() {
    let operator = Operator::with(&format!(
        "printf '{{\"password\":\"{SECRET}\"}}'\nprintf 'no  route\\n\\tto host: token=%s\\033[0m' {SECRET} >&2\nexit 1"
    ));
    let error = operator.error().await;
    assert!(error.ends_with("failed with exit status: 1 and said: no route to host: token=*** [0m"), "{error}");
    assert!(Operator::with("exit 3").error().await.ends_with("failed with exit status: 3 and said nothing"));
    assert!(Operator::with("kill -9 $$").error().await.contains("signal: 9"));
}

#[tokio::test]
async fn too_much_output_ends_a_plugin_and_too_much_error_text_is_cut() {
    let error = Operator::with("head -c 100000000 /dev/zero; sleep 300").error().await;
    assert!(error.contains("was ended: it printed more than 1048576 bytes"), "{error}");
    let error = Operator::with("yes complaint | head -c 100000000 >&2; exit 1").error().await;
    assert!(error.contains("said: complaint complaint") && error.ends_with("..."), "{error}");
}

#[tokio::test]
async fn a_plugin_that_does_not_read_its_request_may_answer() {
    let operator = Operator::with(&format!("exec <&-\ncat <<'END'\n{}\nEND", answer(GOOD)));
    operator.fetch(&["reg.example"]).await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_hangs_is_ended_with_all_that_it_has_started() {
    for script in [
        "sleep 300 & echo $! $$ > $HERE/ids\necho waiting >&2; echo hush-hush; echo hush-hush >&2\nsleep 300",
        // It is done itself, but its child could still print.
        "sleep 300 & echo $! > $HERE/ids\necho waiting >&2",
    ] {
        let operator = Operator::with(script).within(Duration::from_secs(1));
        let error = operator.error().await;
        assert!(error.contains("was done within 1s and said: waiting"), "{error}");
        assert_eq!(error.contains("***"), script.contains("hush"), "{error}");
        gone(&operator).await;
    }
}

#[tokio::test]
async fn who_stops_asking_ends_the_plugin() {
    let operator = Operator::with("sleep 300 & echo $! $$ > $HERE/new; mv $HERE/new $HERE/ids\nsleep 300");
    tokio::select! {
        fetched = operator.fetch(&["reg.example"]) => panic!("{fetched:?}"),
        () = wait_for("the plugin to run", LONG, async || operator.path("ids").exists().then_some(())) => {}
    }
    gone(&operator).await;
}

/// Waits until none of the processes runs whose ids are in the file `ids`.
async fn gone(operator: &Operator) {
    let ids = operator.read("ids");
    assert!(!ids.trim().is_empty());
    wait_for("the processes to end", LONG, async || {
        let runs = |id: &str| {
            let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        (!ids.split_whitespace().any(runs)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_missing_or_not_executable_is_named() {
    let operator = Operator::with("");
    fs::remove_file(operator.path("test-provider")).unwrap();
    let path = operator.path("test-provider").display().to_string();
    let error = operator.error().await;
    assert!(error.contains("cannot be started: there is no program") && error.contains(&path), "{error}");
    fs::write(operator.path("test-provider"), "#!/bin/sh\n").unwrap();
    let error = operator.error().await;
    assert!(error.contains("may not be executed; set its executable bit") && error.contains(&path), "{error}");
    operator.program("test-provider", "neither a script nor a program");
    assert!(operator.error().await.contains("cannot be started: "));
}

#[tokio::test]
async fn only_what_match_images_covers_may_be_asked_for() {
    let operator = Operator::with("touch $HERE/asked");
    for (image, words) in [
        ("other.example", "may not be asked for `other.example`"),
        ("narrow.example", "may not be asked for `narrow.example`"),
        ("a.b.two.example", "may not be asked for `a.b.two.example`"),
        ("*.two.example", "has no registry to be asked for in `*.two.example`"),
    ] {
        let error = operator.fetch(&["reg.example", image]).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert!(!operator.path("asked").exists());
    let images = [ImagePattern::parse("reg.example").unwrap()];
    let error = plugin::fetch(&operator.plugins(""), "other", &images).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the credential provider `other` is not configured: the controller's CredentialProviderConfig has test-provider"
    );
    let error = plugin::fetch(&Plugins::default(), "other", &images).await.unwrap_err().to_string();
    assert!(error.ends_with("is not configured: the controller runs without --credential-provider-config"), "{error}");
}

const CONFIG: &str = "\
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ecr-credential-provider
  matchImages: ['*.dkr.ecr.*.amazonaws.com']
  defaultCacheDuration: 12h
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get-credentials]
  env:
  - name: AWS_PROFILE
    value: pulls
";

#[test]
fn the_configuration_is_read_in_all_its_versions_as_yaml_and_as_json() {
    for version in ["v1", "v1beta1", "v1alpha1"] {
        let text = CONFIG.replace(".io/v1", &format!(".io/{version}"));
        let read = read_credential_provider_config(&SourceFile { name: "c", text: text.as_bytes() }).unwrap();
        let [provider] = &read[..] else { panic!("{read:?}") };
        assert_eq!(provider.api_version, format!("credentialprovider.kubelet.k8s.io/{version}"));
        assert_eq!(provider.default_cache_duration, Duration::from_secs(12 * 3600));
        assert_eq!(
            (&provider.args[..], &provider.env[..]),
            (&["get-credentials".to_owned()][..], &[("AWS_PROFILE".to_owned(), "pulls".to_owned())][..])
        );
    }
    let json = "{\n\t\"apiVersion\": \"kubelet.config.k8s.io/v1\", \"kind\": \"CredentialProviderConfig\", \"providers\": [{\n\t\t\"name\": \"a\", \"matchImages\": [\"a.io\"], \"defaultCacheDuration\": \"0s\",\n\t\t\"apiVersion\": \"credentialprovider.kubelet.k8s.io/v1\"}]}";
    assert_eq!(read_credential_provider_config(&SourceFile { name: "c", text: json.as_bytes() }).unwrap().len(), 1);
}

#[test]
fn the_configurations_in_the_documents_are_right_and_do_not_print() {
    let document = include_str!("../../docs/sources/credential-provider.md");
    let configs: Vec<_> =
        document.split("```").filter(|block| block.contains("kind: CredentialProviderConfig")).collect();
    for config in &configs {
        let text = config.strip_prefix("yaml\n").unwrap();
        let read = read_credential_provider_config(&SourceFile { name: "c", text: text.as_bytes() }).unwrap();
        assert!(!format!("{read:?}").contains("30m"), "{read:?}");
    }
    assert_eq!(configs.len(), 3);
}

#[test]
fn what_is_wrong_in_the_configuration_is_told_with_its_place() {
    for (from, to, message) in [
        (CONFIG, "", "c.yaml: PC006: is empty: write a document of kind `CredentialProviderConfig`"),
        ("CredentialProviderConfig", "Config", "c.yaml:2:7: PC007 kind: is not `CredentialProviderConfig`: write that"),
        ("kubelet.config.k8s.io/v1", "v1", "c.yaml:1:13: PC007 apiVersion: is no version of CredentialProviderConfig"),
        (
            "  args: [",
            "  arg: [",
            "c.yaml:8:3: PC004 providers[0].arg: `arg` is not a field of this: did you mean `args`?",
        ),
        (
            "12h",
            "1d",
            "c.yaml:6:25: PC012 providers[0].defaultCacheDuration: has the unknown unit `d` (a day is `24h`)",
        ),
        ("12h", "-12h", "c.yaml:6:25: PC012 providers[0].defaultCacheDuration: has a sign"),
        (
            "  defaultCacheDuration: 12h\n",
            "",
            "c.yaml:4:3: PC006 providers[0].defaultCacheDuration: is empty: write a duration",
        ),
        ("ecr-credential-provider", "bin/ecr", "c.yaml:4:9: PC009 providers[0].name: `bin/ecr` holds a `/` or a space"),
        ("ecr-credential-provider", "'..'", "c.yaml:4:9: PC009 providers[0].name: `..` is no program's name"),
        ("- name: ecr-credential-provider\n  match", "- match", "c.yaml:4:3: PC006 providers[0].name: is missing"),
        ("'*.dkr.ecr.*.amazonaws.com'", "", "c.yaml:5:16: PC006 providers[0].matchImages: is missing or empty"),
        (
            "'*.dkr.ecr.*.amazonaws.com'",
            "'a.io:port'",
            "c.yaml:5:17: PC008 providers[0].matchImages[0]: `a.io:port` is no image pattern",
        ),
        (
            "credentialprovider.kubelet.k8s.io/v1",
            "v1",
            "c.yaml:7:15: PC014 providers[0].apiVersion: is no version of the protocol",
        ),
        (
            "value: pulls",
            "value: true",
            "c.yaml:11:12: PC005 providers[0].env[0].value: `true` is true or false to YAML",
        ),
        ("name: AWS_PROFILE", "name: A=B", "c.yaml:10:11: PC009 providers[0].env[0].name: is no name of a variable"),
        (
            "  args: [get-credentials]\n",
            "  tokenAttributes: {serviceAccountTokenAudience: a}\n",
            "c.yaml:8:20: PC014 providers[0].tokenAttributes: is not supported",
        ),
        ("providers:", "providers: []\nothers:", "c.yaml:3:12: PC006 providers: is missing or empty"),
        ("pulls\n", "pulls\n---\nkind: X\n", "c.yaml:13:1: PC013: is a second document"),
        ("kind:", "kind: a\nkind:", "c.yaml:3:1: PC003: `kind` is here twice, first in line 2"),
        ("providers:\n", "providers:\n\t", "PC002"),
    ] {
        let text = CONFIG.replacen(from, to, 1);
        let findings =
            read_credential_provider_config(&SourceFile { name: "c.yaml", text: text.as_bytes() }).unwrap_err();
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.iter().any(|finding| finding.contains(message)), "{to}: {findings:#?}");
    }
    let twice = CONFIG.replace("\n- name: ecr", "\n- name: ecr-credential-provider\n  apiVersion: x\n- name: ecr");
    let findings = read_credential_provider_config(&SourceFile { name: "c.yaml", text: twice.as_bytes() }).unwrap_err();
    assert!(findings.iter().any(|finding| finding.to_string().contains("is already there")), "{findings:?}");
}

#[test]
fn a_file_or_directory_that_is_not_there_is_named() {
    let operator = Operator::with("");
    let read = |config: &str, directory: &str| {
        operator.plugins("");
        let findings = Plugins::read(&operator.path(config), &operator.path(directory)).unwrap_err();
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(read("no.yaml", "").contains("no.yaml: PC001: cannot be read: No such file"));
    assert!(read("config.yaml", "no-directory").contains("no-directory: PC001: is no directory"));
}
