//! The file of each type: what is for people to read. Laid out as libxml2 lays XML out.

use super::Database;
use super::document::{Child, Element, NAMESPACE};

/// The files, in the order in which the tool writes them: of two types whose names differ in case only, the last stays.
pub fn files(database: &Database) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::with_capacity(database.types.len());
    let mut places = std::collections::HashMap::new();
    for (name, fields) in database.types.iter() {
        let path = format!("{}.xml", name.to_ascii_lowercase());
        let text = file(name, fields).into_bytes();
        match places.get(&path) {
            Some(&place) => files[place] = (path, text),
            None => {
                places.insert(path.clone(), files.len());
                files.push((path, text));
            }
        }
    }
    files
}

fn file(name: &str, fields: &[Element]) -> String {
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<mime-type xmlns=\"{NAMESPACE}\" type=\"{}\">\n  \
         <!--Created automatically by update-mime-database. DO NOT EDIT!-->\n",
        attribute(name)
    );
    for field in fields {
        out.push_str("  <");
        out.push_str(&field.name);
        for (key, value) in &field.attributes {
            out.push_str(&format!(" {key}=\"{}\"", attribute(value)));
        }
        if field.children.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push('>');
        for child in &field.children {
            if let Child::Text(text) = child {
                out.push_str(&escape(text));
            }
        }
        out.push_str(&format!("</{}>\n", field.name));
    }
    out.push_str("</mime-type>\n");
    out
}

fn escape(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    text.replace('\r', "&#13;")
}

fn attribute(value: &str) -> String {
    let value = escape(value).replace('"', "&quot;");
    value.replace('\n', "&#10;").replace('\t', "&#9;")
}
