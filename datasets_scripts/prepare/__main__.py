from datasets_scripts.prepare.command import main


__all__ = []

if __name__ == "__main__":
    main()
