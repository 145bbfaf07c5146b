"""Who is it: individuals told apart by what their photographs have in common."""
