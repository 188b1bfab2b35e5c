//! Parts that make a demonstration without a cluster, and tests without mocks: real servers on the loopback interface.

pub mod images;
pub mod sshd;
pub mod world;
