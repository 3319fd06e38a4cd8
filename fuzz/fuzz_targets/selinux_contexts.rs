#![no_main]

hullwright_fuzz::target!("selinux_contexts");
