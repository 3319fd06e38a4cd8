#![no_main]

hullwright_fuzz::target!("signed_messages");
