import unittest

import pytest
from asking import ask
from triage import triage


class Sync(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def fake_model(self, triocept_model):
        self.fake_model = triocept_model

    def test_it_is_answered(self):
        model = self.fake_model("developers")
        self.assertEqual(triage("?"), "developers")
        assert len(model.trace) == 1

    def test_an_error_of_the_handler_that_is_swallowed(self):
        """Fails: KeyError: 'city'"""

        def answer(exchange):
            {}["city"]

        self.fake_model(handler=answer)
        assert triage("?") == "people"

    def test_a_reply_that_is_left_over(self):
        """Fails: was not used"""
        self.fake_model("developers", "left")
        assert triage("?") == "developers"

    def test_a_failure_of_its_own_stays(self):
        """Fails: 'developers' != 'accounting'"""
        model = self.fake_model("developers", "left")
        assert not model.calls
        self.assertEqual(triage("?"), "accounting")


class Async(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def fake_model(self, triocept_model):
        self.fake_model = triocept_model

    async def test_it_is_answered_on_asyncio(self):
        self.fake_model("hello")
        assert await ask("hi") == "hello"

    async def test_an_error_of_the_handler_on_asyncio(self):
        """Fails: KeyError: 'city'"""

        async def answer(exchange):
            {}["city"]

        self.fake_model(handler=answer)
        assert await ask("hi")
