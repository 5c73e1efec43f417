"""`python -m slotcon_plugin COMMAND`: the same as `slotcon COMMAND`."""

from slotcon_tools import main

if __name__ == "__main__":
    main()
