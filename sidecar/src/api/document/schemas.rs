//! Schemas of generic types, as derives write them, made readable and true.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{AnyOfBuilder, ArrayItems, Schema};
use utoipa::openapi::{Ref, RefOr};

/// Schemas by their names.
type Schemas = BTreeMap<String, RefOr<Schema>>;

/// `Form_Type` refers to `Type` instead of repeating it.
pub(super) fn refer(schemas: &mut Schemas) {
    let known = schemas.clone();
    for (name, schema) in schemas {
        let inner = name.split_once('_').and_then(|(_, of)| known.get_key_value(of));
        if let Some((of, inner)) = inner {
            replace(schema, inner, of);
        }
    }
}

fn replace(schema: &mut RefOr<Schema>, inner: &RefOr<Schema>, name: &str) {
    if schema == inner {
        *schema = Ref::from_schema_name(name).into();
        return;
    }
    match schema {
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.iter_mut().for_each(|item| replace(item, inner, name));
        }
        RefOr::T(Schema::Object(object)) => {
            object.properties.values_mut().for_each(|property| replace(property, inner, name));
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                replace(items, inner, name);
            }
        }
        _ => {}
    }
}

/// What may be read as several forms at once, since members that are not known are ignored: a request or a batch.
pub(super) fn overlap(schemas: &mut Schemas) {
    for schema in schemas.values_mut() {
        if let RefOr::T(Schema::OneOf(one_of)) = schema {
            let forms = one_of.items.drain(..).fold(AnyOfBuilder::new(), AnyOfBuilder::item);
            *schema = forms.description(one_of.description.take()).into();
        }
    }
}
