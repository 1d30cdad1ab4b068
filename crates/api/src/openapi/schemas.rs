//! Types to schemas: one generator for what is read, one for what is written, and the names of both in one place.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

/// Where the names are.
const DEFINITIONS: &str = "/components/schemas";

/// Stands for Unix milliseconds that are read and written as RFC 3339.
pub struct Time;

/// Stands for a URL: http or https, with a host, without user name and password.
pub struct Uri;
/// The address of a web page, as a browser reads one.
pub struct WebUrl;

/// Stands for bytes in base64.
pub struct Base64;

macro_rules! stand_in {
    ($name:ident, $($schema:tt)+) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($schema)+)
            }
        }
    };
}

stand_in!(Time, { "type": "string", "format": "date-time" });
stand_in!(Uri, { "type": "string", "format": "uri", "maxLength": 2048 });
// As a browser reads one (WHATWG), which takes more than RFC 3986 does.
stand_in!(WebUrl, { "type": "string", "maxLength": 2048 });
stand_in!(Base64, { "type": "string", "contentEncoding": "base64" });

/// The schemas of all types that were asked for.
pub struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = DEFINITIONS.into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }
}

impl Schemas {
    /// Of what is read.
    pub fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// Of what is read, in place.
    pub fn inlined<T: JsonSchema>(&mut self) -> Value {
        let mut schema = T::json_schema(&mut self.read).to_value();
        tidy(&mut schema);
        schema
    }

    /// Of what is written.
    pub fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// Two types of one name that differ.
    pub fn finish(mut self) -> Result<Map<String, Value>, String> {
        let mut all = self.written.take_definitions(true);
        for (name, schema) in self.read.take_definitions(true) {
            match all.get(&name) {
                Some(there) if *there != schema => return Err(format!("two schemas are called {name}")),
                _ => drop(all.insert(name, schema)),
            }
        }
        for (name, schema) in &mut all {
            tidy(schema);
            let described = schema.get("description").is_some();
            if !described {
                return Err(format!("the type {name} has no documentation"));
            }
        }
        Ok(all)
    }
}

/// Rust's names of integers say nothing that the bounds do not.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str);
            if format.is_some_and(|format| {
                format.starts_with("uint") || format.starts_with("int") || format == "double"
            }) {
                members.remove("format");
            }
            // That a field may be left out, `required` says.
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
