//! The HTTPS server of `pullcred webhook`.
