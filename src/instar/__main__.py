from instar.cli import main

raise SystemExit(main())
