import sys


__all__ = []

if __name__ == "__main__":  # nothing is imported before: the processes that it starts import this file, too
    from datasets_scripts.commands import run_command
    from datasets_scripts.prepare.command import main

    sys.exit(run_command("prepare", main))
