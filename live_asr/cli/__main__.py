"""`python -m live_asr.cli`: the command where its script is not on the path."""

from live_asr.cli.main import main

if __name__ == "__main__":
    main()
