"""A model of triocept's beside other HTTP that is mocked: with pytest-httpx2, and with pytest-recording."""

import application
import httpx2
import pytest


def test_the_rest_of_the_web_is_mocked_by_httpx2(triocept_model, httpx2_mock):
    triocept_model("At nine.")
    httpx2_mock.route(host="127.0.0.1").pass_through()  # the model is there
    httpx2_mock.get("https://shop.example/orders/A-17").respond(json={"state": "broken"})
    assert application.answer("When do you open?") == "At nine."
    assert httpx2.get("https://shop.example/orders/A-17").json() == {"state": "broken"}


@pytest.mark.vcr(ignore_localhost=True)
def test_the_rest_of_the_web_is_played_by_vcrpy(triocept_model):
    triocept_model("At nine.")
    assert application.answer("When do you open?") == "At nine."
    assert httpx2.get("https://shop.example/orders/A-17").json() == {"state": "broken"}
