"""What every error on the command line looks like."""


def assert_one_line(err):
    assert err.count("\n") == 1
    assert err.startswith("stepsize ")
    assert "Traceback" not in err
