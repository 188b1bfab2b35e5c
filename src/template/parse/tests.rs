//! What texts the parser takes, and what it says of others.

use proptest::prelude::*;

use super::*;

#[test]
fn errors_in_a_block_within_a_range_are_errors() {
    for text in ["{{range .}}{{block \"b\" .}}{{)}}", "{{range .}}{{define \"b\"}}{{)}}"] {
        assert!(parse("t", text, &|_| true).unwrap_err().reason.contains("unexpected"), "{text}");
    }
}

#[test]
fn errors_of_later_lines_name_the_line_of_the_action() {
    let said = |text| parse("t.yaml", text, &|f| f == "quote").unwrap_err();
    // As helm 4.3.1 words them.
    for (text, reason) in [
        ("{{ quote\n \"a }}", "unterminated quoted string in action started at t.yaml:1"),
        ("\n{{ quote\n 1", "unclosed action started at t.yaml:2"),
        ("{{ quote\n %", "unexpected \"%\" in operand"),
        ("{{ if true }}\n{{ quote }}{{ /* }}", "unexpected \"/\" in command"),
        ("{{ if true\n}}{{/* ", "unclosed comment in action started at t.yaml:1"),
        ("{{ if true }}{{ quote }}\n{{/* ", "unclosed comment"),
    ] {
        assert_eq!(said(text).reason, reason, "{text}");
    }
    // The block is around its `else`, not in it.
    let text = "\n{{ block \"b\" . }}\n\n{{ else }}{{ end }}";
    assert_eq!(text[..said(text).pos].matches('\n').count(), 1);
}

proptest! {
    /// Whatever the text, there is a tree or an error within it, and the tokens lie in the text and in its order.
    #[test]
    fn any_text_is_parsed_or_refused(
        text in r#"(\{\{-? ?|-? ?\}\}|if |else|end|range |with |define "a"|template "a"|block "b" \.|\$x|:=|=|\||,|\(|\)|\.a|\.|"q"|'c'|`r`|0x1|-1\.5e3|nil|true|upper |/\*|\*/|é|\n| |[ -~]){0,40}"#
    ) {
        let Lexed { toks, bad } = lex(&text);
        prop_assert!(toks.iter().all(|t| t.pos <= text.len() && text.is_char_boundary(t.pos)));
        prop_assert!(toks.windows(2).all(|w| w[0].pos <= w[1].pos));
        let last = toks.last().map(|t| t.tok);
        prop_assert_eq!(last, Some(if bad.is_empty() { Tok::Eof } else { Tok::Bad }));
        if let Err(e) = parse("t", &text, &|f| f == "upper") {
            prop_assert!(e.pos <= text.len());
        }
    }
}
