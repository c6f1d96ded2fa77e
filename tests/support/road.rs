//! A way to the API server that can be cut, or swallow what travels on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

pub struct Road {
    /// A kubeconfig that leads along it.
    pub kubeconfig: PathBuf,
    is_open: Arc<AtomicBool>,
    travellers: Arc<Mutex<Travellers>>,
    _directory: tempfile::TempDir,
    _task: JoinSet<()>,
}

/// The connections, and whether what they carry arrives.
struct Travellers {
    tasks: JoinSet<()>,
    arrives: Arc<AtomicBool>,
}

impl Default for Travellers {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), arrives: Arc::new(AtomicBool::new(true)) }
    }
}

impl Road {
    /// A road to where this kubeconfig leads.
    pub async fn of(kubeconfig: &Path) -> Self {
        let kubeconfig = fs::read_to_string(kubeconfig).unwrap();
        let server = kubeconfig.split("https://127.0.0.1:").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let along = directory.path().join("kubeconfig");
        fs::write(&along, kubeconfig.replace(server, &port.to_string())).unwrap();

        let server: u16 = server.parse().unwrap();
        let is_open = Arc::new(AtomicBool::new(true));
        let travellers = Arc::<Mutex<Travellers>>::default();
        let (open, all) = (is_open.clone(), travellers.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if open.load(Ordering::SeqCst) {
                    let mut all = all.lock().await;
                    let arrives = all.arrives.clone();
                    all.tasks.spawn(async move {
                        // The server may be away.
                        let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                        tokio::select! {
                            () = carry(near_in, far_out, &arrives) => {}
                            () = carry(far_in, near_out, &arrives) => {}
                        }
                    });
                }
            }
        });
        Self { kubeconfig: along, is_open, travellers, _directory: directory, _task: task }
    }

    /// Ends all connections, and lets no new ones through.
    pub async fn cut(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        self.end_connections().await;
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub async fn end_connections(&self) {
        self.travellers.lock().await.tasks.abort_all();
    }

    /// Swallows what the connections that are open now carry, without a word to either side. New ones are as they should be.
    pub async fn swallow(&self) {
        let mut travellers = self.travellers.lock().await;
        travellers.arrives.store(false, Ordering::SeqCst);
        travellers.arrives = Arc::new(AtomicBool::new(true));
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, arrives: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    // Either side may go away.
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if arrives.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    if !arrives.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}
