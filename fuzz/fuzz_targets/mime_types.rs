#![no_main]

hullwright_fuzz::target!("mime_types");
