"""`muster serve`: a trained model over HTTP, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "answer HTTP requests with a run's model, or any folder"
EXAMPLES = """
muster serve demo
muster serve ./my-model --port 0
muster serve runs/demo-1a2b3c4d/adapter --base ./my-model
muster serve demo --host 0.0.0.0     # with MUSTER_API_KEY in the environment
muster serve demo --engine vllm       # prints the command for heavy use
"""
KEY_HELP = """
The key that clients have to show comes from the environment: MUSTER_API_KEY. Without one the server is for this
machine alone.
"""


def run(argv: list[str]) -> int:
    """Serve a model until Ctrl-C, or print how vLLM would."""
    flags = _parser().parse_args(argv)
    from launcher.send.serve import find_model, require_settings, serve

    model = find_model(flags.model, flags.run_root, flags.base)
    settings = require_settings(model, flags)
    if flags.engine == "vllm":
        from launcher.show.vllm import vllm_command

        print(vllm_command(settings))
        return 0
    return serve(settings, flags.python or model.python)


def _parser() -> argparse.ArgumentParser:
    from conf.serving import ServeSettings
    from launcher.flags import Parser
    from launcher.runs import target

    default = ServeSettings(folder="", name="")
    parser = Parser("serve", HELP + "\n" + KEY_HELP.rstrip(), EXAMPLES)
    parser.add_argument("model", metavar="RUN|FOLDER", help="a run, or a folder with a model or an adapter (PEFT)")
    parser.add_argument("--host", default=default.host, help=f"address to listen on (default: {default.host})")
    parser.add_argument("--port", type=int, default=default.port, help=f"0 takes a free one (default: {default.port})")
    parser.add_argument("--name", metavar="TEXT", help="what clients call the model (default: the run, or the folder)")
    parser.add_argument("--base", metavar="MODEL", default="", help="an adapter's base model (default: as it says)")
    parser.add_argument("--engine", choices=("muster", "vllm"), default="muster", help="vllm: print its command")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    dtypes = ("auto", "float32", "bfloat16", "float16")
    parser.add_argument("--dtype", choices=dtypes, default="auto", help="auto: as the model was saved")
    for flag, unit, text in (
        ("threads", "N", "CPU threads; 0: torch decides"),
        ("max-request-bytes", "BYTES", "largest request"),
        ("max-prompt-tokens", "N", "longest prompt or text; 0: what the model can read"),
        ("max-new-tokens", "N", "longest answer"),
        ("max-texts", "N", "most texts of a request to classify or summarize"),
        ("batch-size", "N", "texts worked on together"),
        ("queue", "N", "requests that wait while one is answered; more are sent away (429)"),
    ):
        value = getattr(default, flag.replace("-", "_"))
        parser.add_argument(f"--{flag}", type=int, metavar=unit, default=value, help=f"{text} (default: {value})")
    late = f"longest that a request may take, waiting included (default: {default.timeout_s:g})"
    parser.add_argument("--timeout", type=float, metavar="S", default=default.timeout_s, dest="timeout_s", help=late)
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that a model's folder brings")
    parser.add_argument("--python", metavar="FILE", help="Python with torch (default: the run's, or this one)")
    target.add_run_root(parser)
    return parser
