import sys

from triocept import read_traces

file = sys.argv[1] if len(sys.argv) > 1 else "traces.jsonl"
for trace in read_traces(file):
    print(trace.rollout, "complete" if trace.sealed else "turns may be missing")
    for thread in trace.threads:
        print("  one thread:")
        for turn in thread:
            answer = turn.response.text or [
                call.name for call in turn.response.tool_calls
            ]
            print(f"    {turn.number}: {turn.outcome}: {answer} {turn.notes}")
