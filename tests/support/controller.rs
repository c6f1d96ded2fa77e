//! `pullcred controller` as a process of its own, as a cluster runs it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{free_port, wait_for};

/// A running controller; killed when dropped.
pub struct Controller {
    process: Child,
    // A static is never dropped: this shell ends the controller when the test program ends, however that ends.
    keeper: Child,
    directory: tempfile::TempDir,
    admin_port: u16,
}

impl Controller {
    /// Starts it with the rights of this kubeconfig, looking after certificates only where the arguments name a webhook
    /// configuration, and waits until it has listed what is there.
    pub async fn start(kubeconfig: &Path, release_namespace: &str, arguments: &[&str]) -> Self {
        Self::spawn(kubeconfig, release_namespace, arguments).ready().await
    }

    /// Starts it with exactly the arguments of a container, but for the address of its admin port, and waits until it is ready.
    pub async fn as_in(container: &[String], kubeconfig: &Path) -> Self {
        let admin_port = free_port();
        let arguments = super::program::listening(container, &[("--admin-listen", admin_port)]);
        Self::run(Command::new(env!("CARGO_BIN_EXE_pullcred")).args(arguments), kubeconfig, admin_port).ready().await
    }

    async fn ready(self) -> Self {
        let mut controller = self;
        wait_for("the controller to be ready", Duration::from_secs(20), async || {
            if let Some(status) = controller.process.try_wait().unwrap() {
                panic!("the controller ended with {status}:\n{}", controller.log());
            }
            (controller.admin("/readyz").await?.0 == 200).then_some(())
        })
        .await;
        controller
    }

    fn spawn(kubeconfig: &Path, release_namespace: &str, arguments: &[&str]) -> Self {
        let admin_port = free_port();
        let managed = arguments.contains(&"--webhook-configuration");
        let certificates = if managed { "managed" } else { "none" };
        let mut program = Command::new(env!("CARGO_BIN_EXE_pullcred"));
        program
            .arg("controller")
            .args(["--release-namespace", release_namespace, "--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .args(["--log-format", "json", "--log-level", "info,pullcred=debug"])
            .args(arguments)
            .env("PULLCRED_CERTIFICATES", certificates);
        Self::run(&mut program, kubeconfig, admin_port)
    }

    fn run(program: &mut Command, kubeconfig: &Path, admin_port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let process = program
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let keeper = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -s KILL \"$1\" 2>/dev/null", "keeper", &process.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, keeper, directory, admin_port }
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks the admin port; `None` when nobody answers.
    pub async fn admin(&self, path: &str) -> Option<(u16, String)> {
        super::program::ask(self.admin_port, path).await
    }

    /// The value of a series without labels, or with just those in `name`.
    pub async fn series(&self, name: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {name} in\n{text}")).parse().unwrap()
    }

    /// What memory it has, and had at most, as Linux tells.
    pub fn memory(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
    }

    /// Whether it leads.
    pub async fn leads(&self) -> bool {
        self.series("pullcred_controller_leading").await > 0.0
    }

    /// Waits until it leads.
    pub async fn leading(self, limit: Duration) -> Self {
        wait_for("the lead", limit, async || self.leads().await.then_some(())).await;
        self
    }

    /// Sends a signal by its name, as `kill` does.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let process = &mut self.process;
        wait_for("the controller to end", limit, async || process.try_wait().unwrap()).await
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the controller:\n{}", self.log());
        }
        // The keeper first: the controller's id may be another's once it has been waited for.
        for process in [&mut self.keeper, &mut self.process] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
