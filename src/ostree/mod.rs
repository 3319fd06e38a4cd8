//! The ostree commit and its repository.
