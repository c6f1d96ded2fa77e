//! How the kubelet reads image names and patterns.
