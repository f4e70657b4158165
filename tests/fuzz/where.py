"""Where an exception comes from, in one line."""


def where(exc: BaseException) -> str:
    frames = []
    trace = exc.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(exc).__name__}: {exc!s:.300} ({' > '.join(frames[-5:])})"
