//! A Service of the webhook: one address, behind which connections go to the replicas that are ready, one after the other. As with
//! kube-proxy a connection stays where it is, whatever becomes of the endpoints.

use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub struct Balancer {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    endpoints: Arc<Mutex<Vec<u16>>>,
    _task: JoinSet<()>,
}

impl Balancer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoints = Arc::<Mutex<Vec<u16>>>::default();
        let known = Arc::clone(&endpoints);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                while connections.try_join_next().is_some() {}
                let endpoint = {
                    let mut endpoints = known.lock().unwrap();
                    if !endpoints.is_empty() {
                        endpoints.rotate_left(1);
                    }
                    endpoints.last().copied()
                };
                // Without endpoints a connection is refused; closing it is as good.
                let Some(endpoint) = endpoint else { continue };
                connections.spawn(async move {
                    // Either side may go away.
                    if let Ok(mut far) = TcpStream::connect(("127.0.0.1", endpoint)).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { port, endpoints, _task: task }
    }

    /// From now on connections go to these ports of 127.0.0.1.
    pub fn hears_of(&self, endpoints: &[u16]) {
        endpoints.clone_into(&mut self.endpoints.lock().unwrap());
    }
}
