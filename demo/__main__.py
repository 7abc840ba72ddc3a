"""`python -m demo`: what `make demo` runs."""

from demo.run import main

if __name__ == "__main__":
    main()
