//! The initrd, composed from the image's own tree.
