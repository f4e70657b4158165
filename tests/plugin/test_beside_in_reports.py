"""What an application asks beside its model, in the report of a test that fails."""

from tests.plugin.conftest import Run

EMBED = """
import json, urllib.request

def embed(text):
    head = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
    body = json.dumps({"model": "small", "input": text}).encode()
    url = os.environ["OPENAI_BASE_URL"] + "/embeddings"
    with urllib.request.urlopen(urllib.request.Request(url, body, head), timeout=20) as answer:
        return json.load(answer)
"""


def test_embeddings_stand_in_the_report_and_are_calls_that_came(run: Run) -> None:
    result = run(
        EMBED
        + """
def test_it(triocept_model):
    triocept_model("left over")
    embed("of a note")
"""
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert (
        "1 of 1 reply was not used (no model call came, only POST /embeddings, which takes no reply):" in text
    )
    assert "no call came at all" not in text
    assert "embeddings  small: {'model': 'small', 'input': 'of a note'}" in text
    assert "→ answered" in text
