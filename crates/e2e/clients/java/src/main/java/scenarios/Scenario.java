package scenarios;

/** One story told to a broker. What it prints must be the same for every broker that behaves alike. */
@FunctionalInterface
interface Scenario {
    void play(Stage stage) throws Exception;
}
