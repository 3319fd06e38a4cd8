//! The expanded form of a plan.

use serde_json::Value;

use super::plan::Plan;

/// What serde calls a TOML date in other formats.
const TOML_DATE: &str = "$__toml_private_datetime";

/// A plan that cannot be written. A mistake in this program.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    #[error("the plan cannot be written as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
    #[error("the plan cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Plan {
    /// As a definition without `extends` in which every default is written out.
    ///
    /// # Errors
    /// A mistake in this program.
    pub fn to_toml(&self) -> Result<String, ExpandError> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// The same as JSON; dates are strings.
    ///
    /// # Errors
    /// A mistake in this program.
    pub fn to_json(&self) -> Result<Value, ExpandError> {
        let mut value = serde_json::to_value(self)?;
        plain_dates(&mut value);
        Ok(value)
    }
}

fn plain_dates(value: &mut Value) {
    if let Some(date) = value.get_mut(TOML_DATE).map(Value::take) {
        *value = date;
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(plain_dates),
        Value::Object(map) => map.values_mut().for_each(plain_dates),
        _ => {}
    }
}
