#![no_main]

hullwright_fuzz::target!("package_lists");
