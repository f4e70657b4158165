"""The same ten tests of one small application, in triocept and in four other tools; and what 200 tests cost in each.

    python -m tests.side_by_side              run all, and write the figures into the pages
    python -m tests.side_by_side --only NAME  one tool's tests, as pytest prints them
    python -m tests.side_by_side --record     record the cassettes of pytest-recording anew

Behind it stands `nox -s suites`. Each tool is in an environment of its own (`TRIOCEPT_SUITES_DIR`, or
`.nox/suites-cache`), and triocept is in its own as the wheel that is built from here. Traffic is loopback only.

* `tools`: the tools, what each needs, and where their tests are
* `environments`: virtual environments and packages of npm, installed where there are none of just these versions
* `running`: pytest in such an environment, bounded; what it says of each test, seconds and CPU seconds
* `lines`: lines of code, by one rule for all, and what a tool's own tests say that it cannot say
* `overhead`: 200 empty tests, 200 with each server, and what is left of it at the end of the session
* `aimock_examples`: aimock's own example fixtures, asked of aimock and of triocept
* `languages`: tests in JavaScript, Go and Java, where the machine has them
* `provider`: what the cassettes are recorded from
* `page`: the generated parts of the two pages
* `suites`: the application, and a file of tests for each tool; not collected by the test suite of triocept
"""
