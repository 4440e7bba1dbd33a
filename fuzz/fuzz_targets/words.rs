//! Text out of a fuzzer's bytes: as they are, or as numbers of words in a language, with bytes of their own between.

/// The first byte says which: even, the rest is the text; odd, each byte is a word, and those beyond the words are characters.
pub fn text(data: &[u8], words: &[&str]) -> String {
    let Some((&how, rest)) = data.split_first() else { return String::new() };
    if how & 1 == 0 {
        return String::from_utf8_lossy(rest).into_owned();
    }
    let mut out = String::new();
    for &b in rest {
        match words.get(usize::from(b)) {
            Some(word) => {
                out.push_str(word);
                if how & 2 == 0 {
                    out.push(' ');
                }
            }
            None => out.push(char::from(b & 0x7f)),
        }
    }
    out
}
