//! Enums: a C# enum where no variant has data, otherwise a class with a nested class for each variant.

use uniffi_bindgen::interface::{AsType, Enum, Literal, Variant};

use super::{calls, code::Code, docs, names, types::Types};
use crate::error::BindgenError;

/// The public type.
pub(super) fn class(code: &mut Code, types: Types<'_>, definition: &Enum) -> Result<(), BindgenError> {
    code.gap();
    code.lines(docs::summary(definition.docstring()));
    if definition.is_flat() {
        return flat(code, types, definition);
    }
    let class = names::upper(definition.name());
    code.open(format!("public abstract class {class}"));
    code.open(format!("internal {class}()"));
    code.close();
    code.gap();
    code.line(format!("internal abstract void UniffiWrite({} writer);", types.interop("Writer")));
    for (index, variant) in definition.variants().iter().enumerate() {
        nested(code, types, &class, variant, index + 1);
    }
    let display = definition.uniffi_trait_methods().display_fmt;
    calls::to_string(code, types, definition.as_type(), display.as_ref())?;
    code.close();
    Ok(())
}

/// The converter.
pub(super) fn codec(code: &mut Code, types: Types<'_>, definition: &Enum) {
    let class = names::upper(definition.name());
    let public = types.global(&class);
    let member = |variant: &Variant| {
        let name = if definition.is_flat() {
            names::upper(variant.name())
        } else {
            names::variant(variant.name(), &class)
        };
        format!("{public}.{name}")
    };
    code.gap();
    code.open(format!("internal sealed class {class}Codec : Converter<{public}>"));
    code.line(format!("internal static readonly {class}Codec Instance = new {class}Codec();"));
    code.gap();
    code.open(format!("internal override {public} Read(Reader reader)"));
    code.line("int variant = reader.I32();");
    code.open("switch (variant)");
    for (index, variant) in definition.variants().iter().enumerate() {
        let number = index + 1;
        if definition.is_flat() {
            code.line(format!("case {number}: return {};", member(variant)));
        } else {
            read_variant(code, types, &member(variant), variant, number);
        }
    }
    code.line(unknown_number(types, definition.name()));
    code.close();
    code.close();
    code.gap();
    code.open(format!("internal override void Write(Writer writer, {public} value)"));
    if definition.is_flat() {
        code.open("switch (value)");
        for (index, variant) in definition.variants().iter().enumerate() {
            code.line(format!("case {}: writer.I32({}); break;", member(variant), index + 1));
        }
        code.line(format!(
            "default: throw new ArgumentOutOfRangeException(\"value\", value, \"no variant of {class}\");"
        ));
        code.close();
    } else {
        code.line("RequireValue(value);");
        code.line("value.UniffiWrite(writer);");
    }
    code.close();
    code.close();
}

/// The case of a converter's `Read` that reads the fields of a variant, in order, and makes the class `made`.
pub(super) fn read_variant(code: &mut Code, types: Types<'_>, made: &str, variant: &Variant, number: usize) {
    code.line(format!("case {number}:"));
    code.open_block();
    let mut arguments = Vec::new();
    for (index, field) in variant.fields().iter().enumerate() {
        let ty = field.as_type();
        code.line(format!("{} field{index} = {}.Read(reader);", types.public(&ty), types.codec(&ty)));
        arguments.push(format!("field{index}"));
    }
    code.line(format!("return new {made}({});", arguments.join(", ")));
    code.close();
}

/// The `default` case for a variant that this code doesn't know.
pub(super) fn unknown_number(types: Types<'_>, name: &str) -> String {
    format!("default: throw new {}(\"{name} has no variant \" + variant);", types.global("InternalException"))
}

/// Constructor parameters of a variant.
pub(super) fn variant_parameters(types: Types<'_>, variant: &Variant) -> String {
    let parameters: Vec<String> = variant
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            format!("{} {}", types.public(&field.as_type()), names::lower(&names::field(field.name(), index)))
        })
        .collect();
    parameters.join(", ")
}

fn flat(code: &mut Code, types: Types<'_>, definition: &Enum) -> Result<(), BindgenError> {
    let numbered = definition.variant_discr_type();
    let base = numbered.as_ref().map(|ty| format!(" : {}", types.public(ty))).unwrap_or_default();
    code.open(format!("public enum {}{base}", names::upper(definition.name())));
    for (index, variant) in definition.variants().iter().enumerate() {
        code.gap();
        code.lines(docs::summary(variant.docstring()));
        let number = match numbered {
            None => String::new(),
            Some(_) => match definition.variant_discr(index).map_err(BindgenError::metadata)? {
                Literal::UInt(number, _, _) => format!(" = {number}"),
                Literal::Int(number, _, _) => format!(" = {number}"),
                _ => String::new(),
            },
        };
        code.line(format!("{}{number},", names::upper(variant.name())));
    }
    code.close();
    Ok(())
}

fn nested(code: &mut Code, types: Types<'_>, outer: &str, variant: &Variant, number: usize) {
    let class = names::variant(variant.name(), outer);
    code.gap();
    code.lines(docs::summary(variant.docstring()));
    code.open(format!("public sealed class {class} : {}", types.global(outer)));
    code.line(format!("/// <summary>Makes a <c>{class}</c>.</summary>"));
    code.open(format!("public {class}({})", variant_parameters(types, variant)));
    for (index, field) in variant.fields().iter().enumerate() {
        let name = names::field(field.name(), index);
        code.line(format!("this.{} = {};", names::property(&name, &class), names::lower(&name)));
    }
    code.close();
    for (index, field) in variant.fields().iter().enumerate() {
        let property = names::property(&names::field(field.name(), index), &class);
        code.gap();
        code.lines(docs::summary(field.docstring()));
        code.line(format!("public {} {property} {{ get; private set; }}", types.public(&field.as_type())));
    }
    code.gap();
    code.open(format!("internal override void UniffiWrite({} writer)", types.interop("Writer")));
    code.line(format!("writer.I32({number});"));
    for (index, field) in variant.fields().iter().enumerate() {
        let property = names::property(&names::field(field.name(), index), &class);
        code.line(format!("{}.Write(writer, this.{property});", types.codec(&field.as_type())));
    }
    code.close();
    code.close();
}
