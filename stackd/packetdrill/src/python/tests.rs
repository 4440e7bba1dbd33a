use super::{Names, PyError, Value, number, run};

fn names() -> Names {
    Names::from([("tcpi_snd_cwnd".into(), Value::Int(10)), ("TCP_CA_Open".into(), Value::Int(0))])
}

fn holds(text: &str) {
    assert_eq!(run(text, &mut names()), Ok(String::new()), "{text}");
}

fn fails(text: &str) -> String {
    match run(text, &mut names()) {
        Err(PyError::Failed(_, text)) => text,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn assertions_over_names_and_arithmetic() {
    for text in [
        "assert tcpi_snd_cwnd == 10",
        "assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd",
        "assert 1 < tcpi_snd_cwnd <= 10",
        "assert TCP_CA_Open == 0 and not tcpi_snd_cwnd == 9",
        "assert tcpi_snd_cwnd in (8, 10)\nassert 3 not in [1, 2]",
        "assert abs(-3) == 3 and max(1, 2, 3) == 3 and min([4, 2]) == 2",
        "assert 7 // 2 == 3 and -7 // 2 == -4 and -7 % 3 == 2 and 7 / 2 == 3.5",
        "assert 2 + 3 * 4 == 14 and (2 + 3) * 4 == 20 and 2 ** 3 ** 2 == 512 and -2 ** 2 == -4",
        "assert 0x10 | 1 == 17 and 1 << 4 == 16 and 6 & 3 == 2 and ~0 == -1",
        "x = 5\nx += 2\nassert x == 7",
        "assert (1 if tcpi_snd_cwnd > 5 else 2) == 1",
        "assert tcpi_snd_cwnd == 10; assert True",
        "if tcpi_snd_cwnd == 9:\n  assert False\nelif tcpi_snd_cwnd == 10:\n  pass\nelse:\n  assert False",
        "if False: assert False",
        "assert 1.5e3 == 1500.0",
        "assert (tcpi_snd_cwnd ==\n   10)",
        "assert tcpi_snd_cwnd == 10, 'cwnd=%d' % tcpi_snd_cwnd  # a comment",
        "assert '%s!' % 'a' == 'a!'",
        "\nassert 1\n  \nassert 2",
    ] {
        holds(text);
    }
}

#[test]
fn a_failed_assertion_says_what_its_names_stand_for() {
    assert_eq!(
        fails("assert tcpi_snd_cwnd == 11, 'wrong'"),
        "assert tcpi_snd_cwnd == 11, 'wrong' does not hold: wrong (tcpi_snd_cwnd = 10)"
    );
    assert!(fails("assert nothing == 1").contains("\"nothing\" is not defined"));
    assert!(fails("assert 1 / 0").contains("has no result"));
    match run("x = 1\n\nassert x == 2", &mut names()) {
        Err(PyError::Failed(2, _)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for text in ["import os", "for x in y: pass", "f(1)", "assert a.b", "assert 1 +", "assert @", "x = lambda: 1"] {
        assert!(matches!(run(text, &mut names()), Err(PyError::Unsupported(0, _))), "{text}");
    }
}

#[test]
fn variables_live_on_and_prints_are_collected() {
    let mut n = names();
    run("a = 1, 2", &mut n).expect("runs");
    assert_eq!(run("print(a[1], 'x')\nprint 'y'", &mut n).expect("runs"), "(2, x)\ny\n");
}

#[test]
fn shell_arithmetic() {
    assert_eq!(number("15*1024*1024"), Ok(15 << 20));
    assert!(number("1.5").is_err());
}
