"""Public bug reports of other packages: a thread, the fault in our words, and the same tried here."""

REPORTS = {}


def report(thread, fault, result="holds"):
    """Marks a test as what came of a thread (owner/name#number) here; the page lists them all."""

    def marked(test):
        REPORTS[thread] = (fault, result, test.__name__)
        return test

    return marked
